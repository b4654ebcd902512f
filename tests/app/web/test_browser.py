"""Chromium uses the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from mindsd.app.picture_record import Record, read_record
from tests.app.server.live_server import eventually
from tests.app.web.browser import Browser, browser
from tests.app.web.page_server import Page

ROUGH = "//img[@class='rough']"


@pytest.fixture(scope="module")
def shared(page: Page) -> Iterator[Browser]:
    with browser(page.url) as made:
        yield made


@pytest.fixture
def at(shared: Browser, page: Page) -> Iterator[Browser]:
    """A page that nobody has used."""
    shared.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    shared.driver.get(f"{page.url}/favicon.ico")
    shared.driver.execute_script("localStorage.clear()")
    shared.open()
    yield shared
    eventually(page.is_idle)


def draw(at: Browser, prompt: str = "a red circle", steps: str = "4") -> None:
    at.fill(Prompt=prompt, Size="64x64", Steps=steps)
    at.button("Generate").click()


def newest(page: Page) -> Path:
    return max(page.output.glob("*.png"), key=lambda file: file.stat().st_mtime_ns)


def record(page: Page) -> Record:
    """How the newest picture was made."""
    found = read_record(newest(page))
    assert found is not None
    return found


def test_it_draws_and_says_how(at: Browser, page: Page):
    at.fill(Seed="77")
    prompt = "a <b>red</b> ${7*7} circle"
    draw(at, prompt)
    at.says("status", "Done: 1 image")
    at.says("facts", prompt)
    assert "77" in at.part("facts").text and newest(page).name in at.part("facts").text
    assert record(page).parameters.prompt == prompt
    at.until(lambda: at.all("//*[@id='viewer']//img"))


def test_rough_pictures_come_and_cancel_ends_it(at: Browser, page: Page):
    draw(at, steps="900")
    at.until(lambda: at.all(ROUGH))
    assert "it/s" in at.part("status").text and "step " in at.part("status").text
    at.button("Cancel").click()
    at.says("status", "Cancelled")
    at.until(lambda: not at.all(ROUGH))
    eventually(page.is_idle)


def test_the_last_pictures_buttons_and_facts_are_not_under_new_previews(at: Browser, page: Page):
    draw(at)
    at.says("status", "Done")
    at.until(lambda: at.button("Edit").is_displayed() and at.part("facts").is_displayed())
    draw(at, steps="900")
    at.until(lambda: at.all(ROUGH))
    assert not at.part("facts").is_displayed() and not at.part("of-picture").is_displayed()
    at.button("Cancel").click()
    at.says("status", "Cancelled")
    at.until(lambda: at.part("of-picture").is_displayed())


def test_a_reload_finds_what_runs(at: Browser, page: Page):
    draw(at, "a long one", steps="900")
    at.says("status", "Drawing")
    [job] = [own for own in page.service.jobs() if not own.over]
    at.open()
    at.says("status", "Drawing")
    assert not job.over
    at.until(lambda: at.field("Prompt").get_attribute("value") == "a long one")
    assert at.field("Steps").get_attribute("value") == "900"
    at.button("Cancel all").click()
    at.says("status", "Cancelled")


def test_only_what_is_painted_is_drawn_anew(at: Browser, page: Page):
    draw(at)
    at.says("status", "Done")
    at.button("Edit").click()
    canvas = at.until(lambda: at.all("//*[@id='canvas']//canvas")[0])
    at.until(lambda: "%" in at.part("canvas").text)
    at.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    paint = ActionChains(at.driver).move_to_element_with_offset(canvas, -20, -20).click_and_hold()
    paint.move_by_offset(30, 0).move_by_offset(-30, 20).release().perform()
    before = newest(page).name
    draw(at, "a blue square", steps="6")
    at.until(lambda: newest(page).name != before)
    at.says("facts", newest(page).name)
    assert set(record(page).pictures) == {"image", "mask_image"}


def test_a_question_about_a_picture(at: Browser):
    draw(at)
    at.says("status", "Done")
    at.button("Ask about it").click()
    message = at.until(lambda: at.all("//*[@id='message']//textarea[not(@disabled)]")[0])
    at.until(lambda: at.all("//*[@id='message']//img"))
    at.until(lambda: message.is_displayed())
    message.send_keys("What is it?", Keys.ENTER)
    at.until(lambda: at.all("//*[@id='talk']//*[@data-testid='bot']"))
    at.until(lambda: not at.part("talk-state").text)
    assert at.all("//*[@id='talk']//*[@data-testid='user']//img") and "What" in at.part("talk").text


def test_keys_draw_and_settings_come_back(at: Browser, page: Page):
    at.fill(Seed="4711", Size="64x64", Steps="3", Prompt="a green star")
    at.field("Prompt").send_keys(Keys.CONTROL, Keys.ENTER)
    at.says("status", "Done: 1 image")
    at.says("facts", "4711")
    at.fill(Seed="-1", Prompt="something else")
    at.button("Use these settings").click()
    at.until(lambda: at.field("Prompt").get_attribute("value") == "a green star")
    assert at.field("Seed").get_attribute("value") == "4711"


def test_a_picture_that_comes_does_not_take_the_field_that_is_typed_in(at: Browser):
    draw(at)
    at.says("status", "Done")
    path = "//*[@id='viewer']//button[contains(@class, 'thumbnail-small')]"
    picture, seed = at.until(lambda: at.all(path)[0]), at.field("Seed")
    seed.send_keys(Keys.CONTROL, "a")
    at.driver.execute_script("arguments[0].focus()", picture)  # as Gradio's gallery does
    ActionChains(at.driver).send_keys("4711").perform()
    assert seed.get_attribute("value") == "4711"
    picture.click()
    assert at.driver.switch_to.active_element == picture  # whoever clicks means it


def test_mistakes_are_said_in_a_corner(at: Browser):
    draw(at, steps="many")
    toast = at.until(lambda: at.all("//*[@data-testid='toast-body']")[0].text)
    assert "steps: write a whole number" in toast


def test_on_a_phone_nothing_scrolls_sideways(at: Browser):
    at.phone()
    at.open()
    draw(at)
    at.says("status", "Done")
    for name in ("Images", "Chat", "Speed"):
        at.tab(name)
        assert at.overflow() <= 0, name
    assert at.button("Compare").is_displayed()


def test_nothing_is_asked_of_other_servers(at: Browser, page: Page):
    draw(at)
    at.says("status", "Done")
    names = "return performance.getEntriesByType('resource').map((own) => own.name)"
    asked = at.driver.execute_script(names)
    assert len(asked) > 10 and all(url.startswith((page.url, "data:", "blob:")) for url in asked)
    assert at.all("//h1") and at.driver.title == "mindsd"

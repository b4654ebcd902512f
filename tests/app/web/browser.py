"""Chromium, driven as a person would: by labels, names of buttons, and keys."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--enable-unsafe-swiftshader", "--window-size=1280,1000"),
)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
SECONDS = 90  # a bound for a busy machine; what is waited for mostly comes at once


class Browser:
    """One window."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self._url = url

    def open(self) -> None:
        """The page, ready to be used: its model is chosen."""
        self.driver.get(f"{self._url}/ui/")
        self.until(lambda: self.field("Model").get_attribute("value"))
        self.until(lambda: self.button("Generate"))

    def phone(self) -> None:
        size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def until(self, holds: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, SECONDS, 0.05).until(lambda driver: _try(holds))

    def field(self, label: str) -> WebElement:
        """The visible one of this label."""
        of = f"//label[.//span[normalize-space()='{label}']]//*[self::textarea or self::input]"
        found = self.driver.find_elements(By.XPATH, f"{of}|//input[@aria-label='{label}']")
        return next(own for own in found if own.is_displayed())

    def button(self, name: str) -> WebElement:
        """The visible one of this name."""
        path = f"//button[normalize-space()='{name}']"
        return next(own for own in self.all(path) if own.is_displayed())

    def tab(self, name: str) -> None:
        """Go to a tab."""
        path = f"//button[@role='tab'][normalize-space()='{name}']"
        own = next(own for own in self.all(path) if own.is_displayed())
        own.click()
        self.until(lambda: own.get_attribute("aria-selected") == "true")

    def all(self, path: str) -> list[WebElement]:
        return self.driver.find_elements(By.XPATH, path)

    def part(self, id: str) -> WebElement:
        return self.driver.find_element(By.ID, id)

    def fill(self, **values: str) -> None:
        """Type into fields, named by their labels."""
        for label, value in values.items():
            own = self.field(label)
            own.send_keys(Keys.CONTROL, "a")
            own.send_keys(value)

    def says(self, id: str, words: str) -> None:
        """Wait until a part of the page says this."""
        self.until(lambda: words in self.part(id).text)

    def overflow(self) -> int:
        """Pixels that the page is wider than the window."""
        width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return self.driver.execute_script(f"return {width}")

    def save(self, file: Path) -> None:
        """A picture of the whole page, for whoever looks for a failure."""
        shot = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True}
        )
        file.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(url: str) -> Iterator[Browser]:
    """A new one, that knows nothing of the others."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver, url)
    finally:
        driver.quit()


def _try(holds: Callable[[], Any]) -> Any:
    """What is not there yet does not hold yet."""
    try:
        return holds()
    except Exception as error:
        if type(error).__module__.startswith("selenium") or isinstance(
            error, StopIteration | IndexError
        ):
            return False
        raise

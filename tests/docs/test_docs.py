"""What the pages of docs/ show is so: every command runs, every answer is as shown, every link
leads somewhere, and no option, route, column, field, figure or error code is made up or missing.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from mindsd.app.cli import app
from mindsd.app.command_tree import CONFIG, walk
from mindsd.app.runs.columns import columns
from mindsd.app.server.application import create_app
from mindsd.app.server.image_bodies import EditBody
from mindsd.app.server.metrics import Metrics
from mindsd.app.server.service import Service
from mindsd.pipelines.hub import Hub, HubOptions
from mindsd.pipelines.shelf import Shelf
from tests.docs.page import Block, Page
from tests.docs.terminal import Terminal, clean_environment, python

ROOT = Path(__file__).parents[2]
GUIDES = ("getting-started", "page", "api", "batch", "tuning", "configuration", "security", "cpu")
PAGES = {name: Page(ROOT / "docs" / f"{name}.md") for name in GUIDES}
ALL = [Page(path) for path in sorted((ROOT / "docs").glob("*.md"))]
ELLIPSIS = "..."
SHOWN = ("text", "json")  # languages of what is printed
COMMAND = typer.main.get_command(app)
REFUSAL = re.compile(r'Refusal\(\s*(\d{3}), "(\w+)"')


@pytest.fixture
def terminal(tmp_path, monkeypatch, capsys) -> Iterator[Terminal]:
    monkeypatch.chdir(tmp_path)
    clean_environment(monkeypatch)
    made = Terminal(monkeypatch, capsys)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Hub(Shelf(), HubOptions(device="cpu")) as hub:
        yield Service(hub)


@pytest.mark.parametrize("name", GUIDES)
def test_every_block_of_the_page_runs(name: str, terminal: Terminal):
    blocks = PAGES[name].blocks
    if shutil.which("curl") is None and any("curl " in own.text for own in blocks):
        pytest.skip("curl is not installed")
    names: dict[str, Any] = {}
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block.file is not None:
            file = Path(block.file)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            python(terminal.there(block.text), names)
        elif block.language == "sh":
            shown = after if after and after.language in SHOWN and not after.file else None
            run(terminal, block, shown)
        else:
            assert block.language in (*SHOWN, "console", "nginx"), f"line {block.line}"


def run(terminal: Terminal, block: Block, shown: Block | None) -> None:
    """Every line of a block; the last one prints what is shown."""
    *first, last = block.commands
    for line in first:
        terminal.run(line)
        assert_well(terminal, line)
    terminal.run(last)
    if shown is not None and shown.text.startswith("mindsd: "):
        assert terminal.code == 2, f"{last}: it was to be refused"
    elif shown is None or shown.language == "text":
        assert_well(terminal, last)
    if shown is not None and shown.language == "json":
        wanted, got = json.loads(shown.text), json.loads(terminal.out)
        assert is_like(got, wanted), f"line {shown.line}: {terminal.out[:1000]}"
    elif shown is not None:
        for line in shown.text.splitlines():
            pattern = ".*".join(re.escape(part) for part in line.split(ELLIPSIS))
            assert re.search(f"(?m)^{pattern}$", terminal.out), f"{line!r} is not in {terminal.out}"


def assert_well(terminal: Terminal, line: str) -> None:
    """It ended well; what curl got is JSON, an event stream of it, or figures, and no error."""
    assert terminal.code == 0, f"{line}: {terminal.out}"
    if not line.startswith("curl ") or terminal.out.startswith("# HELP"):
        return
    told = [own.removeprefix("data: ") for own in terminal.out.splitlines() if own]
    for text in told:
        answer = json.loads(text)
        assert not answer.get("error"), f"{line}: {text}"


def is_like(got: Any, wanted: Any) -> bool:
    """Whether all that is shown is there; "..." stands for anything."""
    if isinstance(wanted, dict):
        return isinstance(got, dict) and all(
            name in got and is_like(got[name], own) for name, own in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(got, list) and len(got) == len(wanted) and all(map(is_like, got, wanted))
    return wanted == ELLIPSIS or got == wanted


def commands(*languages: str, pages: Iterable[Page] = PAGES.values()) -> list[str]:
    """The lines of `mindsd` in the blocks of these languages, from that word on."""
    lines = [
        line
        for page in pages
        for block in page.blocks
        if block.language in languages and block.file is None
        for line in block.commands
    ]
    return [line[line.index("mindsd ") :] for line in lines if "mindsd " in line]


@pytest.mark.parametrize("path", [*dict(walk(COMMAND)), (CONFIG, "show"), (CONFIG, "path")])
def test_every_command_is_run(path: tuple[str, ...]):
    called = re.compile(rf"mindsd (--config \S+ )?{' '.join(path)}(?= |$)(?! serve )")
    assert any(called.match(line) for line in commands("sh"))


def options() -> set[str]:
    """All there are, of all commands."""
    config = COMMAND.commands[CONFIG].commands.values()  # pyright: ignore[reportAttributeAccessIssue]
    every = [COMMAND, *dict(walk(COMMAND)).values(), *config]
    return {
        name
        for command in every
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
    }


@pytest.mark.parametrize("name", GUIDES)
def test_every_option_exists(name: str):
    page = PAGES[name]
    spans = [own for own in page.spans if own.startswith(("--", "mindsd "))]
    typed = [*spans, *commands("sh", "console", pages=[page])]
    assert typed
    said = {word for text in typed for word in re.findall(r"(?<!\S)--[a-z-]+", text)}
    assert not said - options() - {"--help"}


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.path.stem)
def test_every_link_leads_somewhere(page: Page):
    assert not [own for own in page.links if not (page.path.parent / own).exists()]


def test_every_guide_is_reached_from_the_first_page():
    links = PAGES["getting-started"].links
    assert {f"{name}.md" for name in GUIDES} - {"getting-started.md"} <= set(links)


def test_every_route_is_asked(service: Service):
    paths = create_app(service).openapi()["paths"]
    shown = "\n".join(own.text for own in PAGES["api"].blocks)
    used = {  # what the client's methods ask
        "/v1/models": "models.list",
        "/v1/images/edits": "images.edit",
        "/v1/jobs/{id}": "client.delete",
    }
    for path in paths:
        pattern = re.escape(path).replace(r"\{id\}", r"[\w.{}-]+")
        assert re.search(rf"{pattern}(?![\w/])", shown) or used.get(path, "?") in shown, path


def test_every_field_of_an_image_is_told():
    assert set(EditBody.model_fields) <= set(PAGES["api"].spans)


def test_every_column_of_a_batch_is_told_and_there_is_no_other():
    told = re.search(r"Columns are .*?\. ", PAGES["batch"].prose, re.DOTALL)
    assert told is not None
    assert set(re.findall(r"`(\w+)`", told[0])) == set(columns()) - {"width", "height", "options"}


def test_every_figure_is_told_and_there_is_no_other(service: Service):
    text = Metrics(service).text().decode()
    there = set(re.findall(r"(?m)^# TYPE mindsd:(\w+) ", text))
    there = {name for name in there if not name.endswith("_created")}
    table = PAGES["api"].prose.partition("## Health")[2].partition("## Errors")[0]
    assert {own for own in re.findall(r"`(\w+)`", table) if own.count("_") > 0} == there


def test_every_error_is_told_and_there_is_no_other():
    sources = [file.read_text() for file in (ROOT / "app" / "server").glob("*.py")]
    there = {found for text in sources for found in REFUSAL.findall(text)}
    there |= {("404", "not_found"), ("405", "method_not_allowed")}  # application.py's table
    rows = [row for row in PAGES["api"].rows if re.fullmatch(r"\d{3}", row[0])]
    assert {(row[0], code) for row in rows for code in re.findall(r"`(\w+)`", row[1])} == there

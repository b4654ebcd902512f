"""What people see: plain lines now and then, or a live bar that fits 80 columns."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from mindsd.app.live import Live
from mindsd.app.progress import Lines, Place, describe_end, describe_seconds, describe_tally
from mindsd.app.tally import Job, Tally
from mindsd.pipelines.parameters import ImageParameters
from mindsd.request import Started, Step

ASKED = ImageParameters("a")
PLACE = Place("tiny-sd", "cpu", "float32")


def drawn(tally):
    """Two images, one of them half done."""
    for event in (Started(0), Step(5, 10, 1.0)):
        tally.update(tally.jobs[0], event)
        yield tally.jobs[0], event


@pytest.fixture
def tally():
    return Tally([Job(number, ASKED, ASKED, 10) for number in (1, 2)], 2)


def test_lines_come_at_most_every_second(tally, capsys):
    lines = Lines()
    lines.loading("tiny-sd")
    lines.loaded(PLACE, tally)
    for job, event in [*drawn(tally)] * 50:
        lines.told(job, event)
    assert len(capsys.readouterr().err.splitlines()) == 2
    lines._last -= 1.0
    lines.told(*next(drawn(tally)))
    told = capsys.readouterr().err
    assert re.fullmatch(r"encoding: 0/2 images, 5/20 steps, [\d.]+ it/s, [\d:]+ left\n", told)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0:00"), (8.4, "0:08"), (75, "1:15"), (3723, "1:02:03")]
)
def test_seconds_are_said_as_a_clock(seconds, said):
    assert describe_seconds(seconds) == said


def test_the_end_says_what_was_written(tally):
    tally.written = 2
    assert describe_end(tally, 1.0).startswith("2 images in 1.0 s")
    tally.written, tally.failed = 1, 1
    assert describe_end(tally, 1.0).startswith("1 of 2 images in 1.0 s")


@pytest.fixture
def screen():
    return Console(file=io.StringIO(), force_terminal=True, width=80, legacy_windows=False)


def seen(screen):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.file.getvalue())


def test_the_live_bar(tally, screen, capsys):
    with Live(screen) as live:
        live.loading("tiny-sd")
        live._bar.refresh()
        assert "loading tiny-sd" in seen(screen) and "0:00" in seen(screen)
        live.loaded(PLACE, tally)
        for job, event in drawn(tally):
            live.told(job, event)
        live._bar.refresh()
        live.written(tally.jobs[0], Path("out/0001.png"), 1.0)
        tally.written = 1
        live.ended(tally, 2.0)
    text = seen(screen)
    assert "drawing" in text and describe_tally(tally).split(",")[1] in text
    assert all(len(line) <= 80 for line in re.split(r"[\r\n]", text))
    assert text.rstrip().splitlines()[-1].startswith("1 image in 2.0 s")
    assert capsys.readouterr().out == "out/0001.png\n"  # stdout is no terminal here


def test_the_bar_of_a_big_run_fits_80_columns(screen):
    tally = Tally([Job(number, ASKED, ASKED, 50) for number in range(1000)], 1000)
    with Live(screen) as live:
        live.loading("tiny-sd")
        live.loaded(PLACE, tally)
        for job, event in drawn(tally):
            live.told(job, event)
        live._bar.refresh()
    last = max(re.split(r"[\r\n]", seen(screen)), key=lambda line: "it/s" in line)
    assert "left" in last and len(last) <= 80


def test_the_display_goes_when_something_breaks(tally, screen):
    with pytest.raises(ValueError), Live(screen) as live:
        live.loading("tiny-sd")
        raise ValueError
    assert "\x1b[?25h" in screen.file.getvalue()  # the cursor is shown again

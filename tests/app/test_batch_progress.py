"""What people see of a batch: plain lines now and then, or one live line."""

import io
import re
import sys

import pytest
from rich.console import Console

from mindsd.app.batch_progress import BatchLines, BatchTally, LiveBatch


@pytest.fixture
def tally():
    return BatchTally(left=10, skipped=3, done=4, failed=1, tokens=50)


def test_how_far_it_is(tally):
    assert str(tally) == "4 done, 1 failed, 3 skipped, 5 to do, 0.0 tokens/s"
    tally.done, tally.begun = 9, 0.0
    assert re.fullmatch(r"9 done, 1 failed, 3 skipped, [\d.]+ tokens/s", str(tally))


def test_lines_come_now_and_then(tally, capsys):
    lines = BatchLines()
    for _ in range(50):
        lines.doing(tally)
    assert capsys.readouterr().err == ""
    lines._last -= 5.0
    lines.doing(tally)
    assert re.fullmatch(r"0:00 4 done, .* tokens/s\n", capsys.readouterr().err)


def test_a_live_line_goes_away(tally):
    screen = Console(file=io.StringIO(), force_terminal=True, width=80, legacy_windows=False)
    with LiveBatch(screen) as live:
        live.said("note: [one] at a time")
        live._last -= 1.0
        live.doing(tally)
    text = screen.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "note: [one] at a time" in text and "\x1b[?25h" in text


@pytest.mark.parametrize("same", [False, True])
def test_an_answer_goes_to_stdout(same, capsys, monkeypatch):
    """On the screen of the live line it is printed above it."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=80, legacy_windows=False)
    with LiveBatch(screen) as live:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: same)
        live.answered("a.png\ta star")
    shown = screen.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert capsys.readouterr().out == ("" if same else "a.png\ta star\n")
    assert ("a star" in shown) == same

from __future__ import annotations

import io
import time
from pathlib import Path

from rich.console import Console

from mindsd.app.progress import Place
from mindsd.app.runs.live_progress import Live
from mindsd.app.runs.progress import Lines, RunTally, describe_run


def test_a_tally_tells_its_rate_and_what_is_left(monkeypatch):
    tally = RunTally(10, skipped=2)
    assert str(tally) == "0/10 images" and tally.left is None
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0)
    tally.start()
    tally.done, tally.part, tally.failed = 3, 1.0, 1
    monkeypatch.setattr(time, "perf_counter", lambda: 102.0)
    tally.start()
    assert str(tally) == "3/10 images, 1 failed, 2.00 images/s, 0:02 left"
    tally.part, tally.wrong = 0.0, 1
    assert describe_run(tally) == (
        "3 images in 2.0 s (1.50 images/s), 1 failed, 1 row is wrong, 2 were there"
    )


def test_the_summary_counts_failures_by_cause(capsys):
    tally = RunTally(3)
    tally.failed, tally.wrong = 2, 1
    tally.causes.update({"no memory": 2, "no prompt": 1})
    Lines().ended(tally)
    assert capsys.readouterr().err.splitlines() == [
        "2 x no memory",
        "0 images in 0.0 s, 2 failed, 1 row is wrong",
    ]


def test_a_terminal_sees_images_a_second_and_the_rest(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    tally = RunTally(4)
    with Live(console) as live:
        live.loaded(Place("m", "cpu", "float32"), tally)
        tally.begun, tally.done = time.perf_counter() - 1, 2
        live.doing(tally)
        live.failed(7, "[bold]no")
        live.made(Path("report.html"))
    shown = screen.getvalue()
    assert "2/4 images" in shown and "images/s" in shown and "0:01 left" in shown
    assert "mindsd: line 7: [bold]no" in shown and "wrote report.html" in shown

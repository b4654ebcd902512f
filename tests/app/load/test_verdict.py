"""Percentiles, failures and targets, on visits whose figures are known."""

from __future__ import annotations

from rich.console import Console

from mindsd.app.load.plan import Arrival, Targets
from mindsd.app.load.verdict import judge, percentiles, table
from mindsd.app.load.visit import Visit


def chat(first: float, *between: float, failure: str | None = None) -> Visit:
    own = Visit(Arrival(0, 0, "chat", "", {}), 0, first + sum(between), first, list(between))
    own.tokens, own.failure = 1 + len(between), failure
    return own


def image(seconds: float) -> Visit:
    return Visit(Arrival(0, 0, "image", "", {}), 1, seconds)


def test_percentiles_lie_linearly_between_neighbours():
    assert percentiles([7.0]) == (7, 7, 7)
    assert percentiles([float(n) for n in range(101)]) == (50, 90, 99)


def test_each_kind_is_judged_by_its_own_targets():
    targets = Targets(first_token=1, between_tokens=0.1, image=5)
    visits = [chat(0.5, 0.1, 0.05), chat(2.0), chat(0.5, 0.3), chat(0, failure="429"), image(9)]
    texts, images = judge(visits, targets)
    assert (texts.users, texts.met, texts.failures) == (4, 1, {"429": 1})
    assert texts.times["first token"][0] == 0.5
    assert texts.rate == 6 / 10  # six tokens until the last user had all, at 1 + 9 seconds
    assert (images.users, images.met, images.failures, images.rate) == (1, 0, {}, 0.1)
    assert images.as_json()["times"]["whole"]["p99"] == 9


def test_the_table_shows_a_kind_of_which_all_failed():
    console = Console(width=150, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(judge([chat(0, failure="no connection")], Targets())))
    text = console.export_text()
    assert "1 chat" in text and "1x no connection" in text and "0.0%" in text

"""A split is tried before it is trusted, once for every form of call."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mindsd.errors import RequestError
from mindsd.stepcache.dit import DiTSplit
from mindsd.stepcache.split import Pass, Split, distance
from tests.zoo.made_up import Interleaved, Plain, given


class Counting(DiTSplit):
    """Counts its passes by mode."""

    def __init__(self, model: torch.nn.Module):
        self.passes: dict[Pass, int] = dict.fromkeys(Pass, 0)
        super().__init__(model)

    def _read(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        self.passes[self.now.mode] += 1
        return super()._read(original, *args, **kwargs)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def test_each_form_of_call_is_tried_once():
    model = Plain()
    own = Counting(model)
    residuals = [torch.zeros(1)] * 3
    for asked in (given(), given(), given() | {"residuals": residuals}, given()):
        own.whole(lambda asked=asked: model(**asked))
    assert own.passes[Pass.KEEP] == 4 and own.passes[Pass.FORECAST] == 2


def test_what_failed_is_tried_again():
    model = Interleaved()
    own = Counting(model)
    for _ in range(2):
        with pytest.raises(RequestError, match="no step cache for Interleaved: .* leave it out"):
            own.whole(lambda: model(**given()))
    assert own.passes[Pass.FORECAST] == 2


def test_an_overflow_proves_nothing():
    model = Interleaved()
    own = DiTSplit(model)
    asked = given() | {"hidden_states": torch.full((2, 16, 32), float("inf"))}
    result, _ = own.whole(lambda: model(**asked))
    assert not result.isfinite().all()


@pytest.mark.parametrize("error", [MemoryError("full"), torch.OutOfMemoryError("full")])
def test_memory_that_runs_out_is_no_verdict(error: Exception):
    own = DiTSplit(model := Plain())
    runs: list[Pass] = []

    def run() -> Any:
        runs.append(own.now.mode)
        if own.now.mode is Pass.FORECAST:
            raise error
        return model(**given())

    with pytest.raises(type(error)):
        own.whole(run)
    assert runs == [Pass.KEEP, Pass.FORECAST]


def test_layers_that_do_not_run_alone_are_named():
    own = DiTSplit(model := Plain())

    def run() -> Any:
        if own.now.mode is Pass.FORECAST:
            raise IndexError("nothing there")
        return model(**given())

    with pytest.raises(RequestError, match="Plain: its first and last .* alone .nothing there."):
        own.whole(run)


def test_a_pass_ends_with_its_call():
    own = DiTSplit(model := Plain())
    own.probe(lambda: model(**given()))
    assert own.now.mode is Pass.PLAIN
    own.remove()
    assert "forward" not in vars(model)


def test_a_split_that_keeps_nothing_is_refused():
    own = Split(torch.nn.Linear(2, 2))
    with pytest.raises(RequestError, match="no step cache for Linear: its deep blocks did not run"):
        own.whole(lambda: torch.zeros(1))


def test_distance_counts_in_what_rounding_may_move():
    one = torch.ones(100)
    eps = torch.finfo(torch.float32).eps
    assert distance([one * (1 + eps**0.5)], [one]) == pytest.approx(1, rel=1e-2)
    half = one.to(torch.bfloat16)
    assert distance((half * 1.0625,), (half,)) == pytest.approx(0.0625 / 0.0078125**0.5, rel=1e-2)
    assert distance({"a": one, "b": one * 2}, {"a": one, "b": one}) > 1000
    assert distance(one, one * float("inf")) == 0 and distance("text", "text") == 0

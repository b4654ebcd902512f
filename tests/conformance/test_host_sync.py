"""Plans that are known beforehand never make the host wait for the device between two steps.

Counted is every call that would wait on an accelerator. diffusers' own schedulers make some; an
accelerated run may make no more of them. What may wait is the start: the time steps are read once,
and a split is tried when the first form of a call comes (mindsd/stepcache/split.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from mindsd.config import Acceleration
from mindsd.pipelines.accelerate import accelerate
from mindsd.stepcache.plan import StepCache
from mindsd.tokenmerge.plan import TokenMerge
from mindsd.wrap import wrap
from tests.zoo.cases import CASES, VARIANTS
from tests.zoo.drawing import plain

STEPS = 8
WAITS = {"item", "tolist", "numpy", "cpu", "nonzero", "equal", "allclose", "argwhere", "unique"}
WAITS |= {"__bool__", "__float__", "__int__", "__index__", "__contains__", "masked_select"}


class Waits(TorchFunctionMode):
    """Counts calls that wait, by the number of scheduler steps that lie behind."""

    def __init__(self) -> None:
        super().__init__()
        self.behind = 0
        self.found: Counter[int] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        # By its name: on a CPU every `to(latents.device)` leads there, too.
        to_host = func is torch.Tensor.to and "cpu" in (
            own for own in (*args[1:], *named.values()) if isinstance(own, str)
        )
        if to_host or getattr(func, "__name__", "") in WAITS:
            self.found[self.behind] += 1
        return func(*args, **named)

    def stepped(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        self.behind += 1
        return result


def waits(family: str, acceleration: Acceleration | None, draws: int = 1) -> Counter[int]:
    """Of the last of so many draws; None is diffusers alone."""
    case = (CASES | VARIANTS)[family]
    pipe: Any = case.pipe()
    asked = {**case.asked()[0], "num_inference_steps": STEPS}
    counted = Waits()
    with accelerate(pipe, acceleration) if acceleration else nullcontext():
        for _ in range(draws):
            counted = Waits()
            with counted, wrap(pipe.scheduler, "step", counted.stepped):
                plain(pipe, asked)
    assert counted.behind >= STEPS - 1
    return counted.found


def more(family: str, acceleration: Acceleration, draws: int = 1) -> dict[int, int]:
    """How many more than without, by the number of steps that lie behind."""
    bare, found = waits(family, None), waits(family, acceleration, draws)
    return {step: found[step] - bare[step] for step in found if found[step] > bare[step]}


def cache(text: str, **others: Any) -> Acceleration:
    return Acceleration(StepCache.parse(text + ",least=1"), **others)


PLANNED = {
    "shallow": cache("interval:2"),
    "skipped": cache("skip:2"),
    "a mask": cache("plan:1-01-011"),
    "guidance": cache("interval:2", guidance_until=0.5),
}


@pytest.mark.parametrize("how", PLANNED.values(), ids=PLANNED.keys())
@pytest.mark.parametrize("family", ["sd", "sd3", "pixart", "sd controlnet"])
def test_a_plan_waits_at_the_start_only(family: str, how: Acceleration):
    assert set(more(family, how)) <= {0}


@pytest.mark.parametrize("family", ["flux", "flux kontext", "wan", "flux controlnet"])
def test_transformers_that_do_not_guide_in_one_call(family: str):
    assert set(more(family, cache("interval:2"))) <= {0}


def test_merged_tokens_wait_only_when_they_are_matched_anew():
    merged = TokenMerge(0.5, tokens=16, refresh=3)
    assert set(more("sd", Acceleration(token_merge=merged))) <= {0, 3, 6}


def test_a_split_is_tried_in_the_first_draw_only():
    first, second = (waits("sd", cache("interval:2"), draws)[0] for draws in (1, 2))
    assert first == second + 1


@pytest.mark.parametrize("text", ["adaptive:9", "tolerance:0.02"])
def test_what_is_decided_as_it_comes_waits_and_is_seen_to(text: str):
    assert set(more("sd", cache(text))) - {0}

"""What any step cache must hold to, on every family of the zoo (each line a known defect of some).

Decided by `accelerate` on plain diffusers pipelines, and by the engine for live batches.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import HeunDiscreteScheduler, PNDMScheduler

from mindsd import TextToImage
from mindsd.config import PLAIN, Acceleration
from mindsd.errors import RequestError
from mindsd.pipelines.accelerate import accelerate
from mindsd.pipelines.parameters import ImageParameters
from mindsd.request import Step
from mindsd.stepcache.plan import StepCache
from mindsd.tokenmerge.plan import TokenMerge
from tests.zoo.cases import CASES, SIDE, Case
from tests.zoo.drawing import distance, held, levels_apart, plain

REFUSED = ("unheard of",)
CACHED = {name: case for name, case in CASES.items() if name not in REFUSED}
FAMILIES = pytest.mark.parametrize("case", CACHED.values(), ids=CACHED.keys())
STEPS = 8
SIZE: dict[str, Any] = {"width": SIDE, "height": SIDE}


def asked(case: Case, which: int = 0, steps: int = STEPS) -> dict[str, Any]:
    return {**case.asked()[which], "num_inference_steps": steps}


def cache(text: str, **more: Any) -> Acceleration:
    return Acceleration(StepCache.parse(text + ",least=1"), **more)


def drawn(case: Case, acceleration: Acceleration, which: int = 0) -> torch.Tensor:
    with accelerate(case.pipe(), acceleration):
        return plain(case.pipe(), asked(case, which))


@FAMILIES
@pytest.mark.parametrize("text", ["interval:1", "adaptive:0"])
def test_a_closed_gate_changes_no_bit(case: Case, text: str):
    assert torch.equal(drawn(case, cache(text)), plain(case.pipe(), asked(case)))


@FAMILIES
@pytest.mark.parametrize("text", ["interval:2", "interval:3,order=0", "adaptive:9"])
def test_an_open_gate_draws_something_near_with_less_work(case: Case, text: str):
    reference = plain(case.pipe(), asked(case))
    image = drawn(case, cache(text))
    assert image.isfinite().all() and not torch.equal(image, reference)
    assert distance(image, reference) < 0.9


@FAMILIES
def test_taken_off_nothing_is_left(case: Case):
    before = plain(case.pipe(), asked(case))
    drawn(case, cache("interval:2", token_merge=None))
    assert torch.equal(plain(case.pipe(), asked(case)), before)
    for part in case.pipe().components.values():
        if isinstance(part, torch.nn.Module):
            assert all("forward" not in vars(layer) for layer in part.modules())
    assert "step" not in vars(case.pipe().scheduler)  # pyright: ignore


@FAMILIES
def test_a_warm_pipeline_draws_what_a_fresh_one_does(case: Case):
    fresh = drawn(case, cache("interval:2"), 1)
    with accelerate(case.pipe(), cache("interval:2")):
        plain(case.pipe(), asked(case, 0, steps=STEPS + 3))
        assert torch.equal(plain(case.pipe(), asked(case, 1)), fresh)


@pytest.mark.parametrize("scheduler", [HeunDiscreteScheduler, PNDMScheduler])
@pytest.mark.parametrize("text", ["interval:1", "interval:2"])
def test_solvers_of_several_calls(scheduler: Any, text: str):
    """Their times repeat: a cache keyed by time would mix the stages."""
    pipe: Any = CASES["sd"].build()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    reference = plain(pipe, asked(CASES["sd"]))
    with accelerate(pipe, cache(text)):
        image = plain(pipe, asked(CASES["sd"]))
    assert torch.equal(image, reference) == (text == "interval:1")
    assert distance(image, reference) < 0.9


def heun() -> Any:
    pipe: Any = CASES["sd"].pipe()
    return HeunDiscreteScheduler.from_config(pipe.scheduler.config)


def test_a_scheduler_that_is_exchanged_is_followed():
    pipe: Any = CASES["sd"].build()
    with accelerate(pipe, cache("interval:2")):
        pipe.scheduler = heun()
        image = plain(pipe, asked(CASES["sd"]))
    pipe.scheduler = heun()
    assert not torch.equal(image, plain(pipe, asked(CASES["sd"])))


@pytest.mark.parametrize("text", ["interval:2", "adaptive:0.2", "skip:3"])
def test_a_row_knows_neither_its_neighbours_nor_when_it_was_let_in(text: str):
    pipe, how = CASES["sd"].pipe(), cache(text)
    wished = [
        ImageParameters(f"{seed} cats", steps=STEPS + seed, seed=seed, acceleration=how, **SIZE)
        for seed in range(4)
    ] + [ImageParameters("a plain one", steps=STEPS, seed=9, **SIZE)]
    with TextToImage.load(pipe) as model:
        alone = [model.submit(one).result(60) for one in wished]
        with held(model.engine):
            together = [model.submit(one) for one in wished]
        batched = [request.result(60) for request in together]
        first = model.submit(wished[0])
        next(event for event in first.events() if isinstance(event, Step) and event.done == 3)
        late = [model.submit(one) for one in wished[1:]]
        joined = [first.result(60), *(request.result(60) for request in late)]
    for image, other, third in zip(alone, batched, joined, strict=True):
        reference = torch.tensor(list(image.getdata())).reshape(SIDE, SIDE, 3) / 255
        assert levels_apart(other, reference.permute(2, 0, 1)) <= 2
        assert levels_apart(third, reference.permute(2, 0, 1)) <= 2
    bare = plain(pipe, {"prompt": "a plain one", "num_inference_steps": STEPS, "seed": 9, **SIZE})
    assert levels_apart(batched[-1], bare) <= 1  # who did not ask for less gets all


def test_the_engine_and_accelerate_draw_the_same():
    case, how = CASES["sd"], cache("interval:2", guidance_until=0.5)
    expected = drawn(case, how)
    one = asked(case)
    with TextToImage.load(case.pipe()) as model:
        wish = ImageParameters(one["prompt"], steps=STEPS, seed=one["seed"], **SIZE)
        image = model.submit(replace(wish, acceleration=how)).result(60)
    assert levels_apart(image, expected) == 0


GUIDED = ["sd", "sdxl", "sd3", "pixart", "qwen-image", "z-image"]


@pytest.mark.parametrize("family", GUIDED)
def test_guidance_that_ends_early_leaves_the_conditional_branch(family: str):
    case = CASES[family]
    reference = plain(case.pipe(), asked(case))
    image = drawn(case, Acceleration(guidance_until=0.5))
    assert not torch.equal(image, reference) and distance(image, reference) < 0.9
    never = drawn(case, Acceleration(guidance_until=1e-9))
    unguided = {"true_cfg_scale": 1.0} if family == "qwen-image" else {"guidance_scale": 1.0}
    if family == "z-image":
        unguided = {"guidance_scale": 0.0}
    bare = plain(case.pipe(), {**asked(case), **unguided})
    assert distance(never, bare) < 0.2 + distance(reference, bare)


def test_what_cannot_be_done_is_refused_by_name():
    with pytest.raises(RequestError, match="no step cache for Dreamer"):
        accelerate(CASES["unheard of"].pipe(), cache("interval:2"))
    with pytest.raises(RequestError, match="DreamPipeline guides in a way that is not known"):
        accelerate(CASES["unheard of"].pipe(), Acceleration(guidance_until=0.5))
    with pytest.raises(RequestError, match="no token merging for FluxTransformer2DModel"):
        accelerate(CASES["flux"].pipe(), Acceleration(token_merge=TokenMerge(0.5)))
    with pytest.raises(RequestError, match="one of the three"):
        accelerate(CASES["sd"].pipe(), cache("interval:2"), speed="fast")
    with pytest.raises(RequestError, match="unknown speed 'warp'"):
        accelerate(CASES["sd"].pipe(), speed="warp")


def test_a_pipeline_on_an_engine_is_accelerated_by_request():
    pipe = CASES["sd"].pipe()
    with TextToImage.load(pipe), pytest.raises(RequestError, match="say acceleration or speed to"):
        accelerate(pipe, speed="balanced")
    with accelerate(pipe, speed="balanced"):
        with pytest.raises(RequestError, match="is accelerated already"):
            accelerate(pipe, speed="fast")
        with pytest.raises(RequestError, match="is under accelerate"):
            TextToImage.load(pipe)


def test_a_lossless_speed_changes_no_bit():
    case = CASES["sd"]
    with accelerate(case.pipe(), speed="lossless"):
        assert torch.equal(plain(case.pipe(), asked(case)), plain(case.pipe(), asked(case)))
    assert PLAIN.is_plain


@pytest.mark.parametrize("family", ["sd", "sdxl", "pixart"])
@pytest.mark.parametrize("way", ["match", "downsample"])
def test_merged_tokens(family: str, way: str):
    case = CASES[family]
    how = Acceleration(token_merge=TokenMerge(0.5, way, tokens=16))
    reference = plain(case.pipe(), asked(case))
    image = drawn(case, how)
    assert not torch.equal(image, reference) and distance(image, reference) < 0.9
    assert torch.equal(drawn(case, how), image)  # its random choice belongs to the seed
    assert torch.equal(plain(case.pipe(), asked(case)), reference)

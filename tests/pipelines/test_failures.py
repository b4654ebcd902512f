"""One request's trouble stays its own: errors, wrong numbers, and memory that runs out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from mindsd import TextToImage
from mindsd.errors import OutOfMemory, RequestError
from mindsd.request import Done, Failed
from mindsd.wrap import wrap
from tests.zoo.cases import CASES, SIDE
from tests.zoo.drawing import body, distance, engine_for, held, plain

TOLERANCE = 1e-5
CASE = CASES["sd"]


def refuse_nan(original: Callable[..., Any], sample: torch.Tensor, *args: Any, **kwargs: Any):
    if sample.isnan().any():
        raise FloatingPointError("the latents are not numbers")
    return original(sample, *args, **kwargs)


def memory_for(rows: int, tried: list[int]) -> Callable[..., Any]:
    """A denoiser that has memory for so many rows."""

    def run(original: Callable[..., Any], sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        tried.append(sample.shape[0])
        if sample.shape[0] > rows:
            raise torch.OutOfMemoryError(f"{sample.shape[0]} rows")
        return original(sample, *args, **kwargs)

    return run


def test_an_error_reaches_only_the_request_that_causes_it():
    pipe: Any = CASE.pipe()
    references = [plain(pipe, asked) for asked in CASE.asked()]
    poisoned = {**CASE.asked()[0], "latents": torch.full((1, 4, 16, 16), torch.nan)}
    with wrap(pipe.unet, "forward", refuse_nan), engine_for(pipe) as engine:
        with held(engine):
            first = engine.submit(body(pipe, CASE.asked()[0]))
            bad = engine.submit(body(pipe, poisoned))
            rest = [engine.submit(body(pipe, asked)) for asked in CASE.asked()[1:]]
        images = [request.result(60) for request in (first, *rest)]
        with pytest.raises(FloatingPointError, match="not numbers"):
            bad.result(60)
        ends = [list(request.events())[-1] for request in (first, bad, *rest)]
        assert engine.load() == (0, 0)
    assert max(map(distance, images, references)) < TOLERANCE
    assert [type(end) for end in ends] == [Done, Failed, Done, Done]


def test_an_error_of_the_pipeline_itself_reaches_only_its_request():
    pipe = CASE.pipe()
    wrong = {**CASE.asked()[0], "latents": torch.zeros(1, 3, 16, 16)}
    with engine_for(pipe) as engine:
        with held(engine):
            bad = engine.submit(body(pipe, wrong))
            good = engine.submit(body(pipe, CASE.asked()[1]))
        with pytest.raises(RuntimeError, match="channels"):
            bad.result(60)
        assert distance(good.result(60), plain(pipe, CASE.asked()[1])) < TOLERANCE


def test_a_group_that_runs_out_of_memory_is_split_and_learns():
    pipe: Any = CASE.pipe()
    asked = [{**one, "num_inference_steps": 4} for one in (*CASE.asked(), CASE.asked()[0])]
    references = [plain(pipe, one) for one in asked]
    tried: list[int] = []
    with wrap(pipe.unet, "forward", memory_for(5, tried)), engine_for(pipe) as engine:
        with held(engine):
            requests = [engine.submit(body(pipe, one)) for one in asked]
        images = [request.result(60) for request in requests]
    assert max(map(distance, images, references)) < TOLERANCE
    assert tried[0] == 2 * len(asked)
    assert all(rows <= 5 for rows in tried[1:])  # it ran out once, and never again


def test_a_request_that_does_not_fit_alone_says_so_and_the_engine_goes_on():
    pipe: Any = CASE.pipe()
    unguided = {**CASE.asked()[0], "guidance_scale": 1.0}
    with wrap(pipe.unet, "forward", memory_for(1, [])), engine_for(pipe) as engine:
        with held(engine):
            large = engine.submit(body(pipe, CASE.asked()[0]))
            small = engine.submit(body(pipe, unguided))
        with pytest.raises(OutOfMemory, match="2 rows does not fit in memory even alone"):
            large.result(60)
        assert distance(small.result(60), plain(pipe, unguided)) < TOLERANCE


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"prompts": []}, "the list of prompts is empty"),
        ({"prompts": [7]}, "a prompt is text, got int"),
        ({"steps": 0}, "steps must be 1 to 1000, got 0"),
        ({"steps": 2.5}, "steps must be a whole number, got 2.5"),
        ({"guidance": float("nan")}, "guidance must be a finite number, got nan"),
        ({"guidance": -1.0}, "guidance must be at least 0, got -1"),
        ({"seed": -1}, "seed must be 0 to"),
        ({"images_per_prompt": 0}, "images per prompt must be 1 to"),
        ({"width": SIDE + 1}, "33x33"),
        ({"width": 2**16}, "65536x65536 needs about"),
        ({"scheduler": "FastScheduler"}, "'FastScheduler' does not fit"),
        ({"strength": 0.5}, "StableDiffusionPipeline does not take strength"),
        ({"options": {"colour": "red"}}, "StableDiffusionPipeline does not take colour"),
        ({"options": {"output_type": "latent"}}, "options cannot set output_type: mindsd does"),
        ({"options": {"num_inference_steps": 0}}, "say steps=0 instead"),
        ({"options": {"guidance_scale": math.nan}}, "say guidance=nan instead"),
        ({"options": {"eta": math.nan}}, "option eta must be a finite number"),
    ],
    ids=str,
)
def test_what_cannot_be_asked(wishes: dict[str, Any], said: str):
    asked = {"prompts": "a cat", **wishes}
    with (
        TextToImage.load(CASE.pipe(), device="cpu") as model,
        pytest.raises(RequestError) as refused,
    ):
        model(**asked)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_scheduler_whose_library_is_missing_is_not_offered(monkeypatch: pytest.MonkeyPatch):
    """diffusers puts a class that only complains in its place."""
    dummy = type("MissingScheduler", (), {"_backends": ["torch", "no_such_library"]})
    monkeypatch.setattr(type(CASE.pipe().scheduler), "compatibles", [DDPMScheduler, dummy])
    with TextToImage.load(CASE.pipe(), device="cpu") as model:
        with pytest.raises(RequestError, match="choose one of DDPMScheduler$"):
            model("a cat", scheduler="NonsenseScheduler")
        with pytest.raises(RequestError, match="MissingScheduler needs no_such_library: pip inst"):
            model("a cat", scheduler="MissingScheduler")


def test_one_wrong_request_of_several_starts_none():
    with TextToImage.load(CASE.pipe(), device="cpu") as model:
        with pytest.raises(RequestError):
            model(["a cat", 3], steps=2)  # pyright: ignore[reportArgumentType]
        assert model.engine.drain(10)
        assert model.engine.counts.forwards == {}

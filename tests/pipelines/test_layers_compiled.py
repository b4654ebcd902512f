"""`layers="compiled"` in the engine and `accelerate`; torch traces, and writes no code here."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mindsd import Acceleration, TextToImage, accelerate
from mindsd.attention import image_layers
from mindsd.errors import RequestError
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters
from mindsd.stepcache.plan import StepCache
from tests.zoo.cases import CASES
from tests.zoo.drawing import held, levels_apart, plain

ASKED: dict[str, Any] = {"steps": 3, "width": 32, "height": 32}
CACHED = Acceleration(StepCache.parse("interval:3,last=0,least=1"))
THEIRS = {"prompt": "a red circle", "num_inference_steps": 3, "width": 32, "height": 32, "seed": 7}


@pytest.fixture(autouse=True)
def _nothing_is_written(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_layers, "BACKEND", "eager")


def wrapped(pipe: Any) -> list[str]:
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    return [n for part in parts for n, own in part.named_modules() if "forward" in vars(own)]


def test_the_engine_draws_the_same_images_whatever_joins():
    pipe = CASES["sd"].build()
    wanted = plain(pipe, THEIRS)
    with TextToImage.load(pipe, device="cpu", layers="compiled") as draw:
        alone = draw("a red circle", seed=7, **ASKED).images[0]
        assert levels_apart(alone, wanted) <= 1
        with held(draw.engine):
            asked = ImageParameters("a red circle", seed=7, **ASKED)
            requests = [draw.submit(asked), draw.submit(ImageParameters("a cat", seed=3, **ASKED))]
        assert levels_apart(requests[0].result(200), wanted) <= 1
        [denoiser] = draw.model.below
        assert denoiser.served and not denoiser.wrong
        assert not draw.model.on_cpu and draw.model.attached is None
    assert not wrapped(pipe) and not draw.model.below
    assert torch.equal(plain(pipe, THEIRS), wanted)


def test_steps_are_left_out_round_what_is_compiled():
    pipe, asked = CASES["flux"].build(), CASES["flux"].asked()[0] | {"num_inference_steps": 8}
    with accelerate(pipe, CACHED, layers="off"):
        wanted = plain(pipe, asked)
    with accelerate(pipe, CACHED, layers="compiled") as own:
        assert float((plain(pipe, asked) - wanted).abs().max()) <= 1 / 255
        assert all(part.served and not part.wrong for part in own.below)
    assert not wrapped(pipe)


def test_what_cannot_be_had_is_refused_by_name():
    pipe = CASES["sd"].build()
    with pytest.raises(RequestError, match="layers='fp8': fp8 is computed on NVIDIA GPUs only"):
        load_model(pipe, device="cpu", layers="fp8")
    with pytest.raises(RequestError, match="layers='fp8': fp8 is computed on NVIDIA GPUs only"):
        accelerate(pipe, speed="lossless", layers="fp8")
    assert not wrapped(pipe)

"""Guidance that ends early, held against the pipeline's own arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mindsd.config import Acceleration
from mindsd.errors import RequestError
from mindsd.pipelines.accelerate import accelerate
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.modules import find_denoisers
from mindsd.wrap import wrap
from tests.zoo.cases import CASES, VARIANTS
from tests.zoo.drawing import distance, plain

STEPS = 8
EARLY = Acceleration(guidance_until=0.5)


@pytest.mark.parametrize("family", ["sd", "sd2", "sdxl", "sd3", "sd controlnet", "pixart"])
def test_half_the_rows_are_left_out_from_there(family: str):
    case = (CASES | VARIANTS)[family]
    pipe: Any = case.pipe()
    asked = {**case.asked()[0], "num_inference_steps": STEPS}
    reference, rows = plain(pipe, asked), []

    def count(original: Any, *args: Any, **kwargs: Any) -> Any:
        rows.append(len(args[0] if args else kwargs["hidden_states"]))
        return original(*args, **kwargs)

    denoiser = next(iter(find_denoisers(pipe.components).values()))
    with wrap(denoiser, "forward", count), accelerate(pipe, EARLY):
        image = plain(pipe, asked)
    assert rows == [2] * (STEPS // 2) + [1] * (STEPS // 2)
    assert not torch.equal(image, reference) and distance(image, reference) < 0.5


def test_the_last_difference_is_nearer_than_none():
    """On trained weights; with a scale of 1 the conditional prediction alone would be left."""
    pipe: Any = load_model("tiny-sd", "cpu").pipe
    asked = {"prompt": "a red circle", "num_inference_steps": 12, "guidance_scale": 3.0, "seed": 5}

    def end(pipe: Any, step: int, time: Any, kept: dict[str, Any]) -> dict[str, Any]:
        if step + 1 == 6:
            pipe._guidance_scale = 1 + 1e-6  # 1 would change the shapes
        return kept

    reference = plain(pipe, asked)
    without = plain(pipe, {**asked, "callback_on_step_end": end})
    with accelerate(pipe, EARLY):
        image = plain(pipe, asked)
    off, further = ((x - reference).square().mean() for x in (image, without))
    assert 0 < off < 0.6 * further


TRUE: dict[str, Any] = {"true_cfg_scale": 4.0, "negative_prompt": "a blurred one"}
TWO_CALLS = {
    "flux": TRUE,
    "flux kontext": TRUE,
    "flux image-to-image": TRUE,
    "qwen-image": TRUE,
    "wan": {"guidance_scale": 4.0},
}


@pytest.mark.parametrize(("family", "guided"), TWO_CALLS.items(), ids=TWO_CALLS.keys())
def test_two_calls_become_one(family: str, guided: dict[str, Any]):
    case = (CASES | VARIANTS)[family]
    pipe: Any = case.pipe()
    asked = {**case.asked()[0], **guided}
    ran = []
    handle = pipe.transformer.proj_out.register_forward_hook(lambda *given: ran.append(1))
    reference = plain(pipe, asked)
    both = len(ran)
    with accelerate(pipe, EARLY):
        image = plain(pipe, asked)
    handle.remove()
    steps = both // 2
    assert len(ran) - both == steps + (steps + 1) // 2
    assert not torch.equal(image, reference) and distance(image, reference) < 0.5


def test_of_a_pipeline_that_does_not_guide_nothing_is_known():
    with pytest.raises(RequestError, match="FluxFillPipeline guides in a way that is not known"):
        accelerate(VARIANTS["flux fill"].pipe(), EARLY)

"""IP-Adapters and LoRAs under a step cache: respected as they are at every draw, nothing stale."""

from __future__ import annotations

from functools import cache as once
from typing import Any

import pytest
import torch

from mindsd.config import Acceleration
from mindsd.pipelines.accelerate import accelerate
from mindsd.stepcache.plan import StepCache
from tests.zoo.adapters import add_lora, picture_embeds, with_picture_adapter
from tests.zoo.cases import CASES, SIZE
from tests.zoo.drawing import distance, plain, together

STEPS = 8
SHOWN = {**SIZE, "prompt": "a red circle", "seed": 11, "num_inference_steps": STEPS}
TEXTS = ("interval:2", "adaptive:9", "skip:2")
# The families whose denoiser is adapted, and how the scale is called there.
LORAS = {
    "sd": "cross_attention_kwargs",
    "flux": "joint_attention_kwargs",
    "qwen-image": "attention_kwargs",
}


def how(text: str) -> Acceleration:
    return Acceleration(StepCache.parse(text + ",least=1"))


@once
def shown_pictures() -> Any:
    return with_picture_adapter()


def seen(seed: int) -> dict[str, Any]:
    return {**SHOWN, "ip_adapter_image_embeds": picture_embeds(seed)}


@once
def adapted(family: str) -> Any:
    pipe: Any = CASES[family].build()
    add_lora(pipe.unet if family == "sd" else pipe.transformer)
    return pipe


def scaled(family: str, scale: float) -> dict[str, Any]:
    asked = {**CASES[family].asked()[0], "num_inference_steps": STEPS}
    return {**asked, LORAS[family]: {"scale": scale}}


def test_a_picture_adapter_is_cached_like_its_model():
    pipe = shown_pictures()
    reference = plain(pipe, seen(1))
    for text in ("interval:1", "adaptive:0", "skip:1"):
        with accelerate(pipe, how(text)):
            assert torch.equal(plain(pipe, seen(1)), reference)
    for text in TEXTS:
        with accelerate(pipe, how(text)):
            image = plain(pipe, seen(1))
        assert not torch.equal(image, reference)
        assert distance(image, reference) < 0.5 * distance(plain(pipe, seen(2)), reference)
    assert torch.equal(plain(pipe, seen(1)), reference)


@pytest.mark.parametrize("text", TEXTS)
def test_another_picture_or_weight_leaves_nothing_of_the_last(text: str):
    pipe = shown_pictures()
    with accelerate(pipe, how(text)):
        fresh = plain(pipe, seen(2))
    with accelerate(pipe, how(text)):
        first = plain(pipe, seen(1))
        assert torch.equal(plain(pipe, seen(2)), fresh)
        pipe.set_ip_adapter_scale(0.2)
        fainter = plain(pipe, seen(1))
        pipe.set_ip_adapter_scale(1.0)
        assert torch.equal(plain(pipe, seen(1)), first) and distance(fainter, first) > 1e-3


@pytest.mark.parametrize("family", LORAS)
def test_a_lora_is_cached_like_its_model(family: str):
    pipe = adapted(family)
    full, faint = (plain(pipe, scaled(family, scale)) for scale in (1.0, 0.3))
    assert distance(faint, full) > 1e-3
    for text in ("interval:1", "adaptive:0"):
        with accelerate(pipe, how(text)):
            assert torch.equal(plain(pipe, scaled(family, 0.3)), faint)
    with accelerate(pipe, how("interval:2")):
        near = plain(pipe, scaled(family, 0.3))
    assert not torch.equal(near, faint) and distance(near, faint) < 0.5
    assert torch.equal(plain(pipe, scaled(family, 0.3)), faint)


@pytest.mark.parametrize("family", LORAS)
@pytest.mark.parametrize("text", ["interval:2", "adaptive:9"])
def test_another_scale_leaves_nothing_of_the_last(family: str, text: str):
    """A probe ends a forward in its midst: the scale that it set must be taken off all the same."""
    pipe = adapted(family)
    with accelerate(pipe, how(text)):
        fresh = plain(pipe, scaled(family, 0.3))
    with accelerate(pipe, how(text)):
        first = plain(pipe, scaled(family, 1.0))
        assert torch.equal(plain(pipe, scaled(family, 0.3)), fresh)
        assert torch.equal(plain(pipe, scaled(family, 1.0)), first)
    assert not torch.equal(first, fresh)


@pytest.mark.parametrize("family", LORAS)
def test_requests_of_several_scales_keep_their_own(family: str):
    pipe = adapted(family)
    asked = [scaled(family, scale) for scale in (1.0, 0.3, 0.3)]
    images, _ = together(pipe, asked)
    for image, one in zip(images, asked, strict=True):
        assert distance(image, plain(pipe, one)) < 1e-5

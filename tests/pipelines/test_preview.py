"""Previews: on time, of the right size, and of the decoder's colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mindsd import TextToImage
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.preview import LatentToRGB, fit, unpack
from mindsd.request import Preview, Step
from tests.zoo.cases import CASES, SIDE

COLOURS = torch.tensor([[0.2, 0.1, 0.0], [0.0, 0.2, 0.1], [0.1, 0.0, 0.2], [0.05, 0.05, 0.05]])


class LinearDecoder(torch.nn.Module):
    """Every cell becomes 2x2 equal pixels, an affine function of its channels."""

    config: Any = type("Config", (), {"latent_channels": 4, "scaling_factor": 0.5})()

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(COLOURS)

    def decode(self, latents: torch.Tensor) -> Any:
        pixels = torch.einsum("bchw,cr->brhw", latents, self.weight)
        pixels = torch.nn.functional.interpolate(pixels, scale_factor=2)
        return type("Output", (), {"sample": pixels})()


def drawn(family: str, steps: int, every: int, **wishes: Any) -> tuple[list[Any], Image.Image]:
    case = CASES[family]
    known = {name: case.common[name] for name in ("max_sequence_length",) if name in case.common}
    asked = ImageParameters("a cat", steps=steps, options=known, **wishes)
    with TextToImage.load(case.pipe(), device="cpu") as model:
        request = model.submit(asked, preview_every=every)
        return list(request.events()), request.result(60)


@pytest.mark.parametrize(
    ("family", "size"),
    [
        ("sd", (32, 48)),
        ("sdxl", (48, 32)),
        ("sd3", (32, 48)),
        ("flux", (48, 32)),
        ("z-image", (32, 32)),
    ],
)
def test_sizes_are_those_of_the_latents(family: str, size: tuple[int, int]):
    events, image = drawn(family, 4, 2, width=size[0], height=size[1])
    previews = [event for event in events if isinstance(event, Preview)]
    assert [preview.step for preview in previews] == [2, 4]
    assert all(one.image.size == (size[0] // 2, size[1] // 2) for one in previews)
    assert image.size == size


@pytest.mark.parametrize(
    "scheduler",
    ["HeunDiscreteScheduler", "PNDMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler"],
)
def test_one_preview_for_each_step_asked_whatever_the_scheduler(scheduler: str):
    events, _ = drawn("sd", 5, 1, scheduler=scheduler)
    steps = [event.done for event in events if isinstance(event, Step)]
    previews = [event.step for event in events if isinstance(event, Preview)]
    assert len(set(previews)) == len(previews)
    assert previews == steps


def test_no_preview_unless_asked():
    assert not [event for event in drawn("sd", 3, 0)[0] if isinstance(event, Preview)]


@pytest.mark.parametrize("family", ["qwen-image"])
def test_none_where_the_layout_is_not_known(family: str):
    events, _ = drawn(family, 2, 1, width=SIDE, height=SIDE)
    assert not [event for event in events if isinstance(event, Preview)]


def test_previews_change_no_image():
    with_previews, without = drawn("sd", 4, 1, seed=3)[1], drawn("sd", 4, 0, seed=3)[1]
    assert np.array_equal(np.asarray(with_previews), np.asarray(without))


def test_a_linear_decoder_is_met_exactly():
    decoder: Any = LinearDecoder()
    pipe: Any = type("Pipe", (), {"vae": decoder})()
    to_rgb = fit(pipe)
    assert to_rgb is not None
    latents = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(1))
    picture = to_rgb.picture(latents, 16, 12)
    pixels = decoder.decode(latents / 0.5).sample[0, :, ::2, ::2] / 2 + 0.5
    expected = (pixels.clamp(0, 1) * 255).round().permute(1, 2, 0).detach().numpy()
    assert picture is not None and picture.size == (8, 6)
    assert np.abs(np.asarray(picture).astype(int) - expected).max() <= 1


def test_packed_latents_are_laid_out_as_the_pipeline_does():
    pipe: Any = CASES["flux"].pipe()
    latents = torch.randn(1, 4, 6, 10)
    packed = pipe._pack_latents(latents, 1, 4, 6, 10)
    assert torch.equal(unpack(packed, 4, 10 / 6), latents[0])  # pyright: ignore


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 4, 2, 8, 8), (1, 15, 12), (1, 7, 16), (64,)])
def test_other_layouts_have_no_picture(shape: tuple[int, ...]):
    to_rgb = LatentToRGB(torch.zeros(5, 3))
    assert to_rgb.picture(torch.zeros(shape), 16, 16) is None

"""Every family of the zoo with requests that may share forwards: other prompts, seeds and steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from diffusers import (
    DiffusionPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxKontextPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
)
from PIL import Image

from tests.zoo.flux import flux, flux_control, flux_controlnet, flux_fill
from tests.zoo.pixart import pixart
from tests.zoo.qwen_image import qwen_image
from tests.zoo.sd3 import sd3, sd3_controlnet
from tests.zoo.sdxl import sdxl
from tests.zoo.stable_diffusion import controlnet, stable_diffusion, stable_diffusion_2
from tests.zoo.unheard_of import LayeredDreamer, unheard_of
from tests.zoo.wan import wan
from tests.zoo.z_image import z_image

SIDE = 32  # pixels
# Equally long, as families without padding share forwards only between texts of equal length.
PROMPTS = ("a red circle", "2 blue stars", "green square")
STEPS = (2, 3, 4)


def picture(seed: int, mode: str = "RGB") -> Image.Image:
    """Smooth random colours, SIDE x SIDE pixels."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bilinear")[0]
    pixels = (smooth.permute(1, 2, 0) * 255).to(torch.uint8).squeeze(-1)
    return Image.fromarray(pixels.numpy(), mode)


def half_mask() -> Image.Image:
    """The right half is to be drawn anew."""
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (SIDE // 2, 0, SIDE, SIDE))
    return mask


@dataclass(frozen=True)
class Case:
    """One family.

    Attributes:
        build: makes its pipeline, the same in every call.
        common: arguments of every request.
        own: further arguments of each request.
    """

    build: Callable[[], DiffusionPipeline]
    common: dict[str, Any] = field(default_factory=dict)
    own: tuple[dict[str, Any], ...] = ({}, {}, {})

    def asked(self) -> list[dict[str, Any]]:
        """Three requests, made anew."""
        return [
            {"prompt": prompt, "num_inference_steps": steps, "seed": seed, **self.common, **own}
            for seed, (prompt, steps, own) in enumerate(
                zip(PROMPTS, STEPS, self.own, strict=True), start=11
            )
        ]

    @lru_cache(maxsize=1)  # noqa: B019  # cases live as long as the tests
    def pipe(self) -> DiffusionPipeline:
        return self.build()

    def __hash__(self) -> int:
        return id(self)


SIZE = {"width": SIDE, "height": SIDE}
PICTURES = tuple({"image": picture(seed), "num_inference_steps": 5} for seed in (1, 2, 3))
SHORT = {**SIZE, "max_sequence_length": 16}
SHOWN = tuple({"control_image": picture(seed)} for seed in (1, 2, 3))
FILM = {**SHORT, "guidance_scale": 3.0, "num_frames": 5}
CASES = {
    "sd": Case(stable_diffusion, SIZE),
    "sd image-to-image": Case(
        lambda: StableDiffusionImg2ImgPipeline(
            **stable_diffusion().components, requires_safety_checker=False
        ),
        {"strength": 0.8},
        PICTURES,
    ),
    "sd inpaint": Case(
        lambda: StableDiffusionInpaintPipeline(
            **stable_diffusion().components, requires_safety_checker=False
        ),
        {**SIZE, "mask_image": half_mask()},
        PICTURES,
    ),
    "sd controlnet": Case(controlnet, SIZE, tuple({"image": picture(seed)} for seed in (1, 2, 3))),
    "sdxl": Case(sdxl, SIZE),
    "sd3": Case(sd3, SHORT),
    "flux": Case(flux, SHORT, tuple({"guidance_scale": scale} for scale in (3.5, 2.0, 7.0))),
    "flux image-to-image": Case(
        lambda: FluxImg2ImgPipeline(**flux().components), {**SHORT, "strength": 0.8}, PICTURES
    ),
    "flux kontext": Case(
        lambda: FluxKontextPipeline(**flux().components),
        {**SHORT, "_auto_resize": False, "max_area": SIDE * SIDE},
        tuple({"image": picture(seed)} for seed in (1, 2, 3)),
    ),
    "pixart": Case(pixart, {**SHORT, "use_resolution_binning": False, "clean_caption": False}),
    "qwen-image": Case(
        qwen_image, {**SIZE, "true_cfg_scale": 4.0, "negative_prompt": "a blurred one"}
    ),
    "z-image": Case(z_image, {**SIZE, "max_sequence_length": 48, "guidance_scale": 3.0}),
    "unheard of": Case(unheard_of, SIZE),
    "unheard of, in layers": Case(lambda: unheard_of(LayeredDreamer), SIZE),
}
# Like those above but for what a step cache sees of them; and videos, which are no images.
VARIANTS = {
    "sd2": Case(stable_diffusion_2, SIZE),
    "flux fill": Case(flux_fill, {**SHORT, "mask_image": half_mask()}, PICTURES),
    "flux controlnet": Case(flux_controlnet, SHORT, SHOWN),
    "flux inpaint": Case(
        lambda: FluxInpaintPipeline(**flux().components),
        {**SHORT, "mask_image": half_mask()},
        PICTURES,
    ),
    "flux control": Case(flux_control, SHORT, SHOWN),
    "sd3 controlnet": Case(sd3_controlnet, SHORT, SHOWN),
    "wan": Case(wan, FILM),
    "wan of two": Case(lambda: wan(boundary=0.8), {**FILM, "num_frames": 1}),
}

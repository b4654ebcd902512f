"""Flux-shaped: packed latents, rotary positions given as tables, guidance as an input."""

from __future__ import annotations

from typing import Any

from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxControlNetModel,
    FluxControlNetPipeline,
    FluxControlPipeline,
    FluxFillPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)

from tests.zoo.autoencoders import autoencoder
from tests.zoo.encoders import WIDTH, clip_text, t5_text
from tests.zoo.tokenizers import clip_tokenizer, t5_tokenizer
from tests.zoo.weights import grow

LATENT = 16  # channels of a packed latent: 4 of 2x2 cells
MASK = 16  # of a packed mask: the 2x2 pixels of 2x2 cells
SHAPE: dict[str, Any] = {
    "patch_size": 1,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": WIDTH,
    "pooled_projection_dim": WIDTH,
    "axes_dims_rope": [4, 4, 8],
    "guidance_embeds": True,
}


def flux() -> FluxPipeline:
    return FluxPipeline(**_parts(LATENT))


def flux_fill() -> FluxFillPipeline:
    """The picture to fill and its mask are channels beside the latent's."""
    return FluxFillPipeline(**_parts(2 * LATENT + MASK))


def flux_control() -> FluxControlPipeline:
    """The picture to follow is channels beside the latent's."""
    return FluxControlPipeline(**_parts(2 * LATENT))


def flux_controlnet() -> FluxControlNetPipeline:
    guide = grow(FluxControlNetModel, **SHAPE, in_channels=LATENT, seed=8)
    return FluxControlNetPipeline(**_parts(LATENT), controlnet=guide)


def _parts(channels: int) -> dict[str, Any]:
    return {
        "transformer": grow(
            FluxTransformer2DModel, **SHAPE, in_channels=channels, out_channels=LATENT
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "vae": autoencoder(shift=0.06),
        "text_encoder": clip_text(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": t5_text(),
        "tokenizer_2": t5_tokenizer(),
    }

"""SD3-shaped: a transformer over text and image tokens, two CLIPs and a T5, flow matching."""

from __future__ import annotations

from typing import Any

from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Pipeline,
)

from tests.zoo.autoencoders import autoencoder
from tests.zoo.encoders import WIDTH, projected_clip_text, t5_text
from tests.zoo.tokenizers import clip_tokenizer, t5_tokenizer
from tests.zoo.weights import grow

SHAPE: dict[str, Any] = {
    "sample_size": 16,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "attention_head_dim": 8,
    "num_attention_heads": 4,
    "joint_attention_dim": 2 * WIDTH,
    "caption_projection_dim": 32,
    "pooled_projection_dim": 2 * WIDTH,
}


def sd3() -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline(**_parts())


def sd3_controlnet() -> StableDiffusion3ControlNetPipeline:
    guide = grow(SD3ControlNetModel, **SHAPE, num_layers=2, seed=8)
    return StableDiffusion3ControlNetPipeline(**_parts(), controlnet=guide)


def _parts() -> dict[str, Any]:
    return {
        "transformer": grow(SD3Transformer2DModel, **SHAPE, num_layers=2),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "vae": autoencoder(shift=0.06),
        "text_encoder": projected_clip_text(1),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": projected_clip_text(2),
        "tokenizer_2": clip_tokenizer(),
        "text_encoder_3": t5_text(2 * WIDTH),
        "tokenizer_3": t5_tokenizer(),
    }

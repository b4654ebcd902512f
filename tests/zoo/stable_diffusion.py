"""SD-shaped: a UNet with cross-attention, CLIP text, one autoencoder; ControlNet beside it."""

from __future__ import annotations

from typing import Any

from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from tests.zoo.autoencoders import autoencoder
from tests.zoo.encoders import WIDTH, clip_text
from tests.zoo.tokenizers import clip_tokenizer
from tests.zoo.weights import grow

UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 8,
    "norm_num_groups": 8,
}


def stable_diffusion() -> StableDiffusionPipeline:
    return StableDiffusionPipeline(**_parts(), requires_safety_checker=False)


def stable_diffusion_2() -> StableDiffusionPipeline:
    """Heads of one size in blocks of any width, linear projections, the velocity predicted."""
    changes = {"attention_head_dim": (4, 8), "use_linear_projection": True}
    parts = _parts() | {
        "unet": grow(UNet2DConditionModel, **(UNET | changes)),
        "scheduler": DDIMScheduler(
            steps_offset=1, clip_sample=False, prediction_type="v_prediction"
        ),
    }
    return StableDiffusionPipeline(**parts, requires_safety_checker=False)


def controlnet() -> StableDiffusionControlNetPipeline:
    guide = grow(
        ControlNetModel,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        conditioning_embedding_out_channels=(16, 32),
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
        seed=8,
    )
    return StableDiffusionControlNetPipeline(
        **_parts(), controlnet=guide, requires_safety_checker=False
    )


def _parts() -> dict[str, Any]:
    return {
        "vae": autoencoder(),
        "text_encoder": clip_text(),
        "tokenizer": clip_tokenizer(),
        "unet": grow(UNet2DConditionModel, **UNET),
        "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
        "safety_checker": None,
        "feature_extractor": None,
    }

"""SDXL-shaped: two CLIP text encoders, a UNet that is also told the size and the pooled text."""

from __future__ import annotations

from typing import Any

from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

from tests.zoo.autoencoders import autoencoder
from tests.zoo.encoders import WIDTH, clip_text, projected_clip_text
from tests.zoo.stable_diffusion import UNET
from tests.zoo.tokenizers import clip_tokenizer
from tests.zoo.weights import grow

TIME_WIDTH = 8
SIZES = 6  # original size, crop, target size: two numbers each


def sdxl() -> StableDiffusionXLPipeline:
    changes = {
        "cross_attention_dim": 2 * WIDTH,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": TIME_WIDTH,
        "projection_class_embeddings_input_dim": SIZES * TIME_WIDTH + WIDTH,
    }
    scheduler: Any = EulerDiscreteScheduler()  # the annotation names an enum, not a class
    return StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=clip_text(),
        text_encoder_2=projected_clip_text(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=grow(UNet2DConditionModel, **(UNET | changes)),
        scheduler=scheduler,
        add_watermarker=False,
    )

"""PixArt-shaped: a transformer with cross-attention to T5 text and a mask over its padding."""

from __future__ import annotations

from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel

from tests.zoo.autoencoders import autoencoder
from tests.zoo.encoders import WIDTH, t5_text
from tests.zoo.tokenizers import t5_tokenizer
from tests.zoo.weights import grow


def pixart() -> PixArtAlphaPipeline:
    transformer = grow(
        PixArtTransformer2DModel,
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        cross_attention_dim=32,
        caption_channels=WIDTH,
    )
    return PixArtAlphaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_text(),
        vae=autoencoder(),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
    )

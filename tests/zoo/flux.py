"""Flux-shaped: packed latents, rotary positions given as tables, guidance as an input."""

from __future__ import annotations

from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

from tests.zoo.autoencoders import autoencoder
from tests.zoo.encoders import WIDTH, clip_text, t5_text
from tests.zoo.tokenizers import clip_tokenizer, t5_tokenizer
from tests.zoo.weights import grow


def flux() -> FluxPipeline:
    transformer = grow(
        FluxTransformer2DModel,
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=True,
    )
    return FluxPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(shift=0.06),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5_text(),
        tokenizer_2=t5_tokenizer(),
    )

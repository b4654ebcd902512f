"""Qwen-Image-shaped: Qwen2.5-VL text of any length, packed latents, a video autoencoder."""

from __future__ import annotations

from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)

from tests.zoo.autoencoders import qwen_autoencoder
from tests.zoo.encoders import WIDTH, qwen_vl
from tests.zoo.tokenizers import qwen_tokenizer
from tests.zoo.weights import grow


def qwen_image() -> QwenImagePipeline:
    transformer = grow(
        QwenImageTransformer2DModel,
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 4, 4),
    )
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=qwen_autoencoder(),
        text_encoder=qwen_vl(),
        tokenizer=qwen_tokenizer(),
        transformer=transformer,
    )

"""Z-Image-shaped: images and texts go to the transformer as lists, one item for each row."""

from __future__ import annotations

from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel

from tests.zoo.autoencoders import autoencoder
from tests.zoo.encoders import WIDTH, qwen3_text
from tests.zoo.tokenizers import qwen_tokenizer
from tests.zoo.weights import grow


def z_image() -> ZImagePipeline:
    transformer = grow(
        ZImageTransformer2DModel,
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    tokenizer: Any = qwen_tokenizer()  # the annotation names the loader, not what it loads
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(shift=0.06),
        text_encoder=qwen3_text(),
        tokenizer=tokenizer,
        transformer=transformer,
    )

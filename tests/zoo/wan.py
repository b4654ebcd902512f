"""Wan-shaped: text to video; T5 text; one transformer, or one for each half of the noise."""

from __future__ import annotations

from typing import Any

from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)

from tests.zoo.encoders import WIDTH, t5_text
from tests.zoo.tokenizers import t5_tokenizer
from tests.zoo.weights import grow


def wan(boundary: float | None = None) -> WanPipeline:
    """
    Args:
        boundary: share of the noise below which a second transformer draws, as in Wan 2.2.
    """
    encoder: Any = t5_text()  # the annotation names its multilingual kind
    return WanPipeline(
        tokenizer=t5_tokenizer(),  # pyright: ignore[reportArgumentType]
        text_encoder=encoder,
        vae=autoencoder(),
        scheduler=UniPCMultistepScheduler(  # pyright: ignore[reportArgumentType]
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=_transformer(0),
        transformer_2=None if boundary is None else _transformer(1),
        boundary_ratio=boundary,
    )


def _transformer(seed: int) -> WanTransformer3DModel:
    return grow(
        WanTransformer3DModel,
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        text_dim=WIDTH,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
        seed=seed,
    )


def autoencoder() -> AutoencoderKLWan:
    """[B, 3, 1 + 4 n, H, W] pixels, [B, 4, 1 + n, H/4, W/4] latents."""
    return grow(
        AutoencoderKLWan,
        base_dim=12,
        z_dim=4,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.1, -0.1, 0.2, 0.0],
        latents_std=[1.1, 0.9, 1.2, 1.0],
        scale_factor_spatial=4,
        seed=7,
    )

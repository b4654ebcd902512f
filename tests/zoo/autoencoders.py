"""Autoencoders of two or three thin levels: one latent cell is 2x2 or 4x4 pixels."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL, AutoencoderKLQwenImage, AutoencoderTiny

from tests.zoo.weights import grow


def autoencoder(shift: float | None = None) -> AutoencoderKL:
    """Two levels: [B, 3, H, W] pixels, [B, 4, H/2, W/2] latents.

    Args:
        shift: latents are centred on it; None for the families that do not centre them.
    """
    return grow(
        AutoencoderKL,
        block_out_channels=[16, 32],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
        shift_factor=shift,
        norm_num_groups=8,
        seed=6,
    )


def qwen_autoencoder() -> AutoencoderKLQwenImage:
    """A video autoencoder used for one frame: [B, 4, 1, H/4, W/4] latents."""
    return grow(
        AutoencoderKLQwenImage,
        base_dim=12,
        z_dim=4,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.1, -0.1, 0.2, 0.0],
        latents_std=[1.1, 0.9, 1.2, 1.0],
        seed=7,
    )


def tiny_autoencoder(**changes: Any) -> AutoencoderTiny:
    """As TAESD, for the latents of `autoencoder`."""
    two: dict[str, Any] = {
        f"{half}_block_out_channels": [8, 8] for half in ("encoder", "decoder")
    } | {"num_encoder_blocks": [1, 1], "num_decoder_blocks": [1, 1]}
    return grow(AutoencoderTiny, **(two | changes), seed=9)

"""UNets by themselves, with the calls that pipelines make: ControlNet, T2I-Adapter, odd sizes."""

from __future__ import annotations

from typing import Any

import torch

from tests.zoo.transformer import ROWS, WIDTH, Model, noise, text, time

PIXELS = 8
UNET: dict[str, Any] = {
    "sample_size": PIXELS,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 8,
    "norm_num_groups": 8,
}
SDXL = UNET | {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
    "transformer_layers_per_block": (1, 2),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 6 * 4 + WIDTH,
}
DEEP = UNET | {
    "block_out_channels": (16, 32, 32),
    "layers_per_block": 2,
    "attention_head_dim": (2, 4, 4),
    "use_linear_projection": True,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}


def sample(side: int = PIXELS) -> dict[str, Any]:
    return {"sample": noise(4, side, side)} | text() | time()


def sdxl() -> dict[str, Any]:
    sizes = torch.full((ROWS, 6), 64.0)
    return sample() | {"added_cond_kwargs": {"text_embeds": noise(WIDTH), "time_ids": sizes}}


def controls(side: int = PIXELS) -> dict[str, Any]:
    """What a ControlNet adds to the skips and to the middle of a UNet of two levels."""
    half = (side + 1) // 2
    shapes = [(16, side), (16, side), (16, half), (32, half)]
    return {
        "down_block_additional_residuals": tuple(noise(c, s, s) for c, s in shapes),
        "mid_block_additional_residual": noise(32, half, half),
    }


def features(first: int) -> dict[str, Any]:
    """What a T2I-Adapter adds to the two levels of a UNet; `first` is the first one's side."""
    return {
        "down_intrablock_additional_residuals": [
            noise(16, first, first),
            noise(32, PIXELS // 2, PIXELS // 2),
        ]
    }


KIND = "UNet2DConditionModel"
MODELS = [
    Model(KIND, UNET, sample, "as SD's"),
    Model(KIND, SDXL, sdxl, "as SDXL's"),
    Model(KIND, DEEP, sample, "as SD2's"),
    Model(KIND, DEEP, lambda: sample(10), "of an odd size"),
    Model(KIND, UNET, lambda: sample() | controls(), "with residuals"),
    Model(KIND, UNET, lambda: sample(7) | controls(7), "with residuals, odd"),
    Model(KIND, SDXL, lambda: sdxl() | controls(), "with residuals, SDXL"),
    Model(KIND, UNET, lambda: sample() | features(PIXELS), "with an adapter's features"),
    Model(KIND, SDXL, lambda: sdxl() | features(PIXELS // 2), "with an adapter's, SDXL"),
    Model(KIND, UNET | {"mid_block_type": None}, sample, "without a middle"),
    Model(
        KIND,
        UNET
        | {"down_block_types": ("AttnDownBlock2D", "DownBlock2D")}
        | {"up_block_types": ("UpBlock2D", "AttnUpBlock2D")},
        sample,
        "with plain attention",
    ),
    Model(
        KIND,
        UNET
        | {"down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D")}
        | {"up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D")}
        | {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"},
        sample,
        "as DeepFloyd's",
    ),
]

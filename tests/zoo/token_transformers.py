"""Transformers that take their images as tokens."""

from __future__ import annotations

from typing import Any

import torch

from tests.zoo.transformer import (
    HEADS,
    ROWS,
    SIDE,
    TEXT,
    TOKENS,
    WIDTH,
    Model,
    mask,
    noise,
    positions,
    residuals,
    share,
    text,
    time,
)


def tokens(axes: int = 3) -> dict[str, Any]:
    """Image tokens and text with their positions, a share of noise."""
    return {"hidden_states": noise(TOKENS, 16)} | text() | share() | positions(axes)


def placed() -> dict[str, Any]:
    """Image tokens with the shape that they lie in."""
    shapes = [[(1, SIDE, SIDE)]] * ROWS
    return {"hidden_states": noise(TOKENS, 16), "img_shapes": shapes} | text() | share()


def controls() -> dict[str, Any]:
    """One residual for every block of FLUX's."""
    return {
        "controlnet_block_samples": residuals(2),
        "controlnet_single_block_samples": residuals(2),
    }


FLUX: dict[str, Any] = HEADS | {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 2,
    "num_single_layers": 2,
    "joint_attention_dim": WIDTH,
    "axes_dims_rope": (4, 4, 8),
}
FLUX1 = FLUX | {"pooled_projection_dim": WIDTH}
CHROMA = FLUX | {
    "approximator_num_channels": 16,
    "approximator_hidden_dim": 32,
    "approximator_layers": 1,
}
QWEN = HEADS | {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 4,
    "num_layers": 3,
    "joint_attention_dim": WIDTH,
    "axes_dims_rope": (8, 4, 4),
}
FLUX3: dict[str, Any] = HEADS | {
    "in_channels": 16,
    "cond_in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 3,
    "joint_attention_dim": WIDTH,
    "timestep_channels": 16,
    "axes_dims_rope": (4, 4, 4, 4),
}
KREA: dict[str, Any] = HEADS | {
    "in_channels": 16,
    "num_layers": 3,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "timestep_embed_dim": 16,
    "text_hidden_dim": WIDTH,
    "num_text_layers": 2,
    "text_num_attention_heads": 2,
    "text_num_key_value_heads": 2,
    "text_intermediate_size": 32,
    "num_layerwise_text_blocks": 1,
    "num_refiner_text_blocks": 1,
    "axes_dims_rope": (4, 4, 8),
}
IDEOGRAM: dict[str, Any] = HEADS | {
    "in_channels": 16,
    "num_layers": 3,
    "intermediate_size": 32,
    "adaln_dim": 16,
    "llm_features_dim": WIDTH,
    "mrope_section": (4, 2, 2),
}


def flux() -> dict[str, Any]:
    return tokens() | {"pooled_projections": noise(WIDTH)}


def krea() -> dict[str, Any]:
    place = positions()
    ids = torch.cat([place["txt_ids"], place["img_ids"]])
    text_layers = noise(TEXT, 2, WIDTH)
    given = {"encoder_hidden_states": text_layers, "position_ids": ids}
    return {"hidden_states": noise(TOKENS, 16)} | share() | given


def ideogram() -> dict[str, Any]:
    total = TEXT + TOKENS
    return share() | {
        "hidden_states": noise(total, 16),
        "encoder_hidden_states": noise(total, WIDTH),
        "position_ids": torch.arange(total)[None, :, None].repeat(ROWS, 1, 3),
        "segment_ids": torch.ones(ROWS, total, dtype=torch.long),
        "indicator": torch.tensor([[3] * TEXT + [2] * TOKENS] * ROWS),
    }


def qwen21() -> dict[str, Any]:
    marks = [False] * TEXT + [True] * (TOKENS // 4)
    return placed() | {"img_mask": torch.tensor([marks] * ROWS)}


def fibo() -> dict[str, Any]:
    return tokens() | {"text_encoder_layers": [noise(TEXT, WIDTH) for _ in range(4)]}


MODELS = [
    Model("FluxTransformer2DModel", FLUX1, flux),
    Model("FluxTransformer2DModel", FLUX1, lambda: flux() | controls(), "with residuals"),
    Model(
        "Flux2Transformer2DModel",
        FLUX | {"timestep_guidance_channels": 16, "axes_dims_rope": (4, 4, 4, 4)},
        lambda: tokens(4) | {"guidance": torch.full((ROWS,), 3.5)},
    ),
    Model("Flux3Transformer2DModel", FLUX3, lambda: tokens(4)),
    Model("ChromaTransformer2DModel", CHROMA, tokens),
    Model("ChromaTransformer2DModel", CHROMA, lambda: tokens() | controls(), "with residuals"),
    Model("BriaTransformer2DModel", FLUX, lambda: tokens() | time()),
    Model("BriaFiboTransformer2DModel", FLUX | {"text_encoder_dim": WIDTH}, fibo),
    Model("OvisImageTransformer2DModel", FLUX | {"out_channels": 16}, tokens),
    Model("LongCatImageTransformer2DModel", FLUX1, tokens),
    Model(
        "QwenImageTransformer2DModel",
        QWEN,
        lambda: placed() | {"encoder_hidden_states_mask": mask()},
    ),
    Model(
        "QwenImageTransformer2DModel",
        QWEN,
        lambda: placed() | {"controlnet_block_samples": residuals(3)},
        "with residuals",
    ),
    Model(
        "QwenImage21Transformer2DModel",
        HEADS
        | {"in_channels": 16, "out_channels": 16, "num_layers": 3, "context_in_dim": WIDTH}
        | {"axes_dims_rope": (4, 4, 8)},
        qwen21,
    ),
    Model("Krea2Transformer2DModel", KREA, krea),
    Model("Ideogram4Transformer2DModel", IDEOGRAM, ideogram),
]

"""Transformers that take their images as pixels of the latent space."""

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
    residuals,
    share,
    text,
    time,
)


def pixels(patch: int = 2) -> dict[str, Any]:
    """An image of 4 channels, a text, a time."""
    return {"hidden_states": noise(4, SIDE * patch, SIDE * patch)} | text() | time()


def sized() -> dict[str, Any]:
    """An image that is told its size."""
    side = torch.full((ROWS, 2), 64.0)
    return pixels() | {"target_size": side, "crop_coords": torch.zeros(ROWS, 2)}


PATCHES: dict[str, Any] = HEADS | {"in_channels": 4, "patch_size": 2, "num_layers": 3}
SAMPLE = PATCHES | {"sample_size": SIDE * 2}
COG: dict[str, Any] = PATCHES | {
    "out_channels": 4,
    "text_embed_dim": WIDTH,
    "time_embed_dim": 16,
    "condition_dim": 8,
}
COGVIEW = COG | {"pos_embed_max_size": 8, "sample_size": SIDE * 2}
AURA: dict[str, Any] = HEADS | {
    "sample_size": SIDE * 2,
    "num_mmdit_layers": 2,
    "num_single_dit_layers": 2,
    "joint_attention_dim": WIDTH,
    "caption_projection_dim": 32,
    "pos_embed_max_size": 64,
}
SD3 = SAMPLE | {
    "joint_attention_dim": WIDTH,
    "caption_projection_dim": 32,
    "pooled_projection_dim": WIDTH,
    "out_channels": 4,
    "pos_embed_max_size": 8,
}
SANA = SAMPLE | {
    "out_channels": 4,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 16,
    "cross_attention_dim": 32,
    "caption_channels": WIDTH,
}
HUNYUAN_DIT = SAMPLE | {
    "num_layers": 4,
    "hidden_size": 32,
    "cross_attention_dim": WIDTH,
    "cross_attention_dim_t5": WIDTH,
    "pooled_projection_dim": 16,
    "text_len": TEXT,
    "text_len_t5": TEXT,
    "use_style_cond_and_image_meta_size": False,
}
HUNYUAN_IMAGE: dict[str, Any] = HEADS | {
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "num_single_layers": 2,
    "num_refiner_layers": 1,
    "text_embed_dim": WIDTH,
    "rope_axes_dim": (8, 8),
}
LUMINA: dict[str, Any] = {
    "sample_size": SIDE * 2,
    "hidden_size": 32,
    "num_layers": 3,
    "num_attention_heads": 2,
    "num_kv_heads": 2,
    "multiple_of": 16,
    "cross_attention_dim": WIDTH,
}
PRX: dict[str, Any] = {
    "in_channels": 4,
    "patch_size": 2,
    "context_in_dim": WIDTH,
    "hidden_size": 32,
    "mlp_ratio": 1.0,
    "num_heads": 2,
    "depth": 3,
    "axes_dim": [8, 8],
}


def sd3() -> dict[str, Any]:
    return pixels() | {"pooled_projections": noise(WIDTH)}


def cogview() -> dict[str, Any]:
    return sized() | {"original_size": torch.full((ROWS, 2), 64.0)}


def glm() -> dict[str, Any]:
    drop = torch.zeros(ROWS, TOKENS, dtype=torch.bool)
    return sized() | {
        "prior_token_id": torch.randint(20, (ROWS, TOKENS)),
        "prior_token_drop": drop,
    }


def hunyuan_dit() -> dict[str, Any]:
    angles = torch.randn(TOKENS, 16)
    return pixels() | {
        "encoder_hidden_states_t5": noise(TEXT, WIDTH),
        "text_embedding_mask": mask(),
        "text_embedding_mask_t5": mask(),
        "image_rotary_emb": (angles.cos(), angles.sin()),
    }


def lumina() -> dict[str, Any]:
    angles = torch.randn(TOKENS, TOKENS, 8)
    turns = torch.polar(torch.ones_like(angles), angles)
    given = {"encoder_mask": mask(), "image_rotary_emb": turns, "cross_attention_kwargs": {}}
    return pixels() | given


def dit() -> dict[str, Any]:
    classes = {"class_labels": torch.tensor([1, 2]), "timestep": torch.tensor([5, 7])}
    return {"hidden_states": noise(4, SIDE * 2, SIDE * 2)} | classes


MODELS = [
    Model("AuraFlowTransformer2DModel", AURA, pixels),
    Model("SD3Transformer2DModel", SD3, sd3),
    Model(
        "SD3Transformer2DModel",
        SD3,
        lambda: sd3() | {"block_controlnet_hidden_states": residuals(3)},
        "with residuals",
    ),
    Model("SD3Transformer2DModel", SD3, lambda: sd3() | {"skip_layers": [0]}, "without its first"),
    Model("SD3Transformer2DModel", SD3, lambda: sd3() | {"skip_layers": [2]}, "without its last"),
    Model(
        "PixArtTransformer2DModel",
        SAMPLE | {"out_channels": 8, "cross_attention_dim": 32, "caption_channels": WIDTH},
        lambda: pixels() | {"encoder_attention_mask": mask()},
    ),
    Model("DiTTransformer2DModel", SAMPLE | {"norm_num_groups": 4, "num_embeds_ada_norm": 10}, dit),
    Model("SanaTransformer2DModel", SANA, pixels),
    Model(
        "SanaTransformer2DModel",
        SANA,
        lambda: pixels() | {"controlnet_block_samples": tuple(residuals(2))},
        "with residuals",
    ),
    Model("CogView3PlusTransformer2DModel", COGVIEW, cogview),
    Model("CogView4Transformer2DModel", COGVIEW | {"rope_axes_dim": (8, 8)}, cogview),
    Model("GlmImageTransformer2DModel", COG | {"prior_vq_quantizer_codebook_size": 20}, glm),
    Model("HunyuanDiT2DModel", HUNYUAN_DIT, hunyuan_dit),
    Model(
        "HunyuanDiT2DModel",
        HUNYUAN_DIT,
        lambda: hunyuan_dit() | {"controlnet_block_samples": residuals(1)},
        "with residuals",
    ),
    Model(
        "HunyuanImageTransformer2DModel",
        HUNYUAN_IMAGE | {"patch_size": (1, 1)},
        lambda: pixels(1) | {"encoder_attention_mask": mask()},
    ),
    Model("LuminaNextDiT2DModel", LUMINA, lumina),
    Model("PRXTransformer2DModel", PRX, lambda: pixels() | share()),
]

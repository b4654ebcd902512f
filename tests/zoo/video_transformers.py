"""Transformers that take videos, or images as videos of one frame."""

from __future__ import annotations

from typing import Any

import torch

from tests.zoo.transformer import (
    HEADS,
    SIDE,
    TEXT,
    TOKENS,
    WIDTH,
    Model,
    mask,
    noise,
    text,
    time,
)


def frames(count: int) -> dict[str, Any]:
    """A video of 4 channels, a text, a time."""
    return {"hidden_states": noise(4, count, SIDE * 2, SIDE * 2)} | text() | time()


KANDINSKY: dict[str, Any] = {
    "in_visual_dim": 4,
    "out_visual_dim": 4,
    "in_text_dim": WIDTH,
    "in_text_dim2": WIDTH,
    "time_dim": 16,
    "model_dim": 32,
    "ff_dim": 32,
    "num_text_blocks": 1,
    "num_visual_blocks": 3,
    "axes_dims": (4, 4, 8),
}
JOY: dict[str, Any] = {
    "patch_size": [1, 2, 2],
    "in_channels": 4,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "text_dim": WIDTH,
    "num_layers": 3,
    "rope_dim_list": [4, 4, 8],
}
WAN: dict[str, Any] = HEADS | {
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": WIDTH,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 3,
    "rope_max_seq_len": 32,
}
VACE = WAN | {"vace_layers": [0, 2], "vace_in_channels": 6}
LTX: dict[str, Any] = HEADS | {
    "in_channels": 4,
    "out_channels": 4,
    "cross_attention_dim": 32,
    "num_layers": 3,
    "caption_channels": WIDTH,
}


def kandinsky() -> dict[str, Any]:
    return (
        text()
        | time()
        | {
            "hidden_states": noise(1, SIDE * 2, SIDE * 2, 4),
            "pooled_projections": noise(WIDTH),
            "visual_rope_pos": [torch.arange(n) for n in (1, SIDE, SIDE)],
            "text_rope_pos": torch.arange(TEXT),
        }
    )


def ltx() -> dict[str, Any]:
    size = {"num_frames": 1, "height": SIDE, "width": SIDE}
    given = {"hidden_states": noise(TOKENS, 4), "encoder_attention_mask": mask()}
    return given | text() | time() | size


MODELS = [
    Model("JoyImageEditTransformer3DModel", JOY, lambda: frames(1)),
    Model("Kandinsky5Transformer3DModel", KANDINSKY, kandinsky),
    Model("WanTransformer3DModel", WAN, lambda: frames(2)),
    Model(
        "WanVACETransformer3DModel",
        VACE,
        lambda: frames(1) | {"control_hidden_states": noise(6, 1, SIDE * 2, SIDE * 2)},
    ),
    Model("LTXVideoTransformer3DModel", LTX, ltx),
]

"""The configurations of tiny vision-language models: a text part and an image part of each family.

Each takes `ids`, from the names of a tokenizer's special tokens to their ids, and the size of the
vocabulary.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

MIXED = ["sliding_attention", "full_attention"]
TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 3,
}
TOWER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 4,
    "num_channels": 3,
}
QWEN: dict[str, Any] = {
    "depth": 4,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
ROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}


def _config(kind: str, words: int, text: dict[str, Any], **options: Any) -> PreTrainedConfig:
    given = {**TEXT, "vocab_size": words, **text}
    return AutoConfig.for_model(kind, text_config=given, **options)


def _tower(kind: str, side: int, **options: Any) -> dict[str, Any]:
    return {**TOWER, "model_type": kind, "image_size": side, **options}


def _qwen_ids(ids: dict[str, int]) -> dict[str, int]:
    return {
        "image_token_id": ids["image_token"],
        "video_token_id": ids["video_token"],
        "vision_start_token_id": ids["vision_bos_token"],
        "vision_end_token_id": ids["vision_eos_token"],
    }


def qwen2_5_vl(ids: dict[str, int], words: int) -> PreTrainedConfig:
    """Images of 8 x 8 pixels a token; windows of two tokens a side in the image part."""
    text = {"rope_parameters": ROPE, "use_sliding_window": False}
    vision = {**QWEN, "fullatt_block_indexes": [1, 3], "window_size": 16}
    return _config("qwen2_5_vl", words, text, vision_config=vision, **_qwen_ids(ids))


def qwen3_vl(ids: dict[str, int], words: int) -> PreTrainedConfig:
    """Images of 8 x 8 pixels a token, which also enter after the first three layers."""
    text = {"rope_parameters": {**ROPE, "mrope_interleaved": True}}
    vision = {**QWEN, "deepstack_visual_indexes": [0, 1, 2], "num_position_embeddings": 16}
    return _config("qwen3_vl", words, text, vision_config=vision, **_qwen_ids(ids))


def llava(ids: dict[str, int], words: int) -> PreTrainedConfig:
    """16 tokens an image, from a CLIP tower without its first token."""
    tower = _tower("clip_vision_model", 16, projection_dim=32)
    image = ids["image_token"]
    return _config(
        *("llava", words, {"model_type": "llama"}),
        **{"vision_config": tower, "image_token_index": image, "image_seq_length": 16},
    )


def llava_onevision(ids: dict[str, int], words: int) -> PreTrainedConfig:
    """4 tokens a tile of 8 x 8 pixels, and one at the end of each line of them."""
    tower = _tower("siglip_vision_model", 8, vision_use_head=False)
    return _config(
        *("llava_onevision", words, {"model_type": "qwen2"}),
        vision_config=tower,
        image_token_index=ids["image_token"],
        video_token_index=ids["video_token"],
        image_grid_pinpoints=PINPOINTS,
    )


PINPOINTS = [[8, 8], [8, 16], [16, 8], [16, 16], [8, 24], [24, 8]]


def smolvlm(ids: dict[str, int], words: int) -> PreTrainedConfig:
    """4 tokens a tile of 16 x 16 pixels."""
    return _config(
        *("smolvlm", words, {"model_type": "llama"}),
        **{"vision_config": {**TOWER, "image_size": 16}, "image_token_id": ids["image_token"]},
    )


def idefics3(ids: dict[str, int], words: int) -> PreTrainedConfig:
    """4 tokens a tile of 16 x 16 pixels."""
    return _config(
        *("idefics3", words, {"model_type": "llama"}),
        **{"vision_config": {**TOWER, "image_size": 16}, "image_token_id": ids["image_token"]},
    )


def gemma3(ids: dict[str, int], words: int) -> PreTrainedConfig:
    """9 tokens an image, which see each other, in windows of 6."""
    text = {"sliding_window": 6, "layer_types": MIXED * 2, "query_pre_attn_scalar": 1}
    return _config(
        *("gemma3", words, text),
        vision_config=_tower("siglip_vision_model", 24),
        mm_tokens_per_image=9,
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
        image_token_index=ids["image_token"],
    )


def internvl(ids: dict[str, int], words: int) -> PreTrainedConfig:
    """4 tokens a tile of 16 x 16 pixels."""
    tower = {**TOWER, "image_size": [16, 16], "patch_size": [4, 4]}
    return _config(
        *("internvl", words, {"model_type": "qwen2"}),
        **{"vision_config": tower, "image_token_id": ids["context_image_token"]},
        image_seq_length=4,
    )


def paligemma(ids: dict[str, int], words: int) -> PreTrainedConfig:
    """9 tokens an image; all of the prompt sees itself."""
    return _config(
        *("paligemma", words, {"model_type": "gemma"}),
        vision_config=_tower("siglip_vision_model", 12, projection_dim=64),
        image_token_index=ids["image_token"],
        projection_dim=64,
        hidden_size=64,
    )

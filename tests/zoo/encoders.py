"""Text encoders of one or two thin layers, of the classes that the big models use."""

from __future__ import annotations

from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from tests.zoo.tokenizers import CLIP_LENGTH
from tests.zoo.weights import grow

WIDTH = 32
CLIP_TOKENS = 514
T5_TOKENS = 98
QWEN_TOKENS = 259


def clip_text(seed: int = 1) -> CLIPTextModel:
    return grow(CLIPTextModel, _clip(), seed=seed)


def projected_clip_text(seed: int = 2) -> CLIPTextModelWithProjection:
    return grow(CLIPTextModelWithProjection, _clip(), seed=seed)


def _clip() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=CLIP_TOKENS,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CLIP_LENGTH,
        bos_token_id=CLIP_TOKENS - 2,
        eos_token_id=CLIP_TOKENS - 1,
        pad_token_id=CLIP_TOKENS - 1,
    )


def t5_text(width: int = WIDTH) -> T5EncoderModel:
    config = T5Config(
        vocab_size=T5_TOKENS, d_model=width, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=4
    )
    return grow(T5EncoderModel, config, seed=3)


def qwen3_text() -> Qwen3Model:
    config = Qwen3Config(
        vocab_size=QWEN_TOKENS,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        pad_token_id=256,
    )
    return grow(Qwen3Model, config, seed=4)


def qwen_vl() -> Qwen2_5_VLForConditionalGeneration:
    text = {
        "vocab_size": QWEN_TOKENS,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "bos_token_id": QWEN_TOKENS - 3,
        "eos_token_id": QWEN_TOKENS - 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    return grow(Qwen2_5_VLForConditionalGeneration, config, seed=5)

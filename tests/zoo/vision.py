"""Tiny vision-language models with random weights, as transformers has them, with all they need.

Each has a model, a tokenizer and the processor of its family. Pictures of 8 to 48 pixels a side
give 4 to 30 image tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    GotOcr2ImageProcessorPil,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    InternVLProcessor,
    LlavaImageProcessorPil,
    LlavaOnevisionImageProcessorPil,
    LlavaOnevisionProcessor,
    LlavaProcessor,
    PaliGemmaProcessor,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
    Qwen3VLProcessor,
    SiglipImageProcessorPil,
    SmolVLMImageProcessorPil,
    SmolVLMProcessor,
)

from mindsd.weights.processor import make_processor
from tests.zoo import vision_configs as configs
from tests.zoo.vision_tokenizers import vision_tokenizer


@dataclass(frozen=True)
class VisionCase:
    """One family.

    Attributes:
        name: its model type.
        model: in float32, in eval mode.
        tokenizer: with the family's image tokens and a chat template.
        processor: transformers' own class for the family, of that tokenizer.
    """

    name: str
    model: Any
    tokenizer: Any
    processor: Any


@dataclass(frozen=True)
class _Family:
    """What makes one case: the tokens by name, the classes and their settings."""

    config: Callable[[dict[str, int], int], PreTrainedConfig]
    image: str  # in the chat template
    tokens: dict[str, str]
    processor: Any
    pictures: Any
    options: dict[str, Any]  # of the image processor
    settings: dict[str, Any] = field(default_factory=dict)  # of the processor
    more: tuple[str, ...] = ()  # special tokens without a name


QWEN_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
QWEN_SIZES = {"patch_size": 4, "size": {"shortest_edge": 256, "longest_edge": 1536}}  # pixels
TILES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
IDEFICS_TOKENS = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "end_of_utterance_token": "<end_of_utterance>",
    "global_image_token": "<global-img>",
}
IDEFICS_SIZES = {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 16}}
SQUARE = {"height": 16, "width": 16}

FAMILIES: dict[str, _Family] = {
    "qwen2_5_vl": _Family(
        *(configs.qwen2_5_vl, QWEN_IMAGE, QWEN_TOKENS, Qwen2_5_VLProcessor),
        *(Qwen2VLImageProcessorPil, QWEN_SIZES),
    ),
    "qwen3_vl": _Family(
        *(configs.qwen3_vl, QWEN_IMAGE, QWEN_TOKENS, Qwen3VLProcessor),
        *(Qwen2VLImageProcessorPil, QWEN_SIZES),
    ),
    "llava": _Family(
        *(configs.llava, "<image>", {"image_token": "<image>"}, LlavaProcessor),
        *(LlavaImageProcessorPil, {"size": {"shortest_edge": 16}, "crop_size": SQUARE}),
        {
            "patch_size": 4,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
    ),
    "llava_onevision": _Family(
        *(configs.llava_onevision, "<image>"),
        *({"image_token": "<image>", "video_token": "<video>"}, LlavaOnevisionProcessor),
        LlavaOnevisionImageProcessorPil,
        {"size": {"height": 8, "width": 8}, "image_grid_pinpoints": configs.PINPOINTS},
        {"num_image_tokens": 4, "vision_feature_select_strategy": "full"},
    ),
    "smolvlm": _Family(
        *(configs.smolvlm, "<image>", IDEFICS_TOKENS, SmolVLMProcessor),
        *(SmolVLMImageProcessorPil, {**IDEFICS_SIZES, "do_image_splitting": False}),
        *({"image_seq_len": 4}, TILES),
    ),
    "idefics3": _Family(
        *(configs.idefics3, "<image>", IDEFICS_TOKENS, Idefics3Processor),
        *(Idefics3ImageProcessorPil, {**IDEFICS_SIZES, "do_image_splitting": True}),
        *({"image_seq_len": 4}, TILES),
    ),
    "gemma3": _Family(
        *(configs.gemma3, "<start_of_image>"),
        {
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
        *(Gemma3Processor, Gemma3ImageProcessorPil, {"size": {"height": 24, "width": 24}}),
        {"image_seq_length": 9},
    ),
    "internvl": _Family(
        *(configs.internvl, "<IMG_CONTEXT>"),
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        *(InternVLProcessor, GotOcr2ImageProcessorPil, {"size": SQUARE, "max_patches": 4}),
        {"image_seq_length": 4},
    ),
    "paligemma": _Family(
        *(configs.paligemma, "<image>", {"image_token": "<image>"}, PaliGemmaProcessor),
        SiglipImageProcessorPil,
        {"size": {"height": 12, "width": 12}, "image_seq_length": 9},
    ),
}


def vision_names() -> tuple[str, ...]:
    """Every family's name, which is its model type."""
    return tuple(FAMILIES)


@cache
def vision_case(name: str) -> VisionCase:
    """This family's case, made when it is first asked for and the same ever after."""
    family = FAMILIES[name]
    tokenizer = vision_tokenizer(family.image, family.tokens, family.more)
    settings = {**family.settings, "chat_template": tokenizer.chat_template}
    pictures = family.pictures(**family.options)
    processor = make_processor(family.processor, pictures, tokenizer, settings)
    return VisionCase(name, _model(family, tokenizer), tokenizer, processor)


def _model(family: _Family, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Its weights are large enough, beside its embeddings, that its texts do not just repeat.

    And none ends by chance: the logit of the token that ends a text is always 0.
    """
    ids: Any = {key: tokenizer.convert_tokens_to_ids(token) for key, token in family.tokens.items()}
    torch.manual_seed(0)
    config = family.config(ids, len(tokenizer))  # after the processor, which may add tokens
    model: Any = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.25)
            else:  # scales and biases, which would be 1 and 0
                parameter.add_(torch.randn(parameter.shape), alpha=0.3)
        model.get_input_embeddings().weight.normal_(0, 0.08)
        model.get_output_embeddings().weight[tokenizer.eos_token_id] = 0
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def colours(seed: int, width: int, height: int) -> Image.Image:
    """A picture of random colours, the same every time, in pixels."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())

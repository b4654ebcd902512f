"""A vision-language model of random weights, as large as one wishes."""

# transformers annotates less than it takes and returns.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    GenerationConfig,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from vision_job import HEAD, MERGE, PATCH, Found, Job, Shape

from mindsd.assets.recipes.vlm_parts import IMAGE, VIDEO, VISION_END, VISION_START, build_tokenizer


def save(job: Job) -> Found:
    """A model of random weights as a folder: a Qwen3-VL with the words of tiny-vlm."""
    shape, tokenizer = Shape.parse(job.shape), build_tokenizer()
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(_config(shape, tokenizer))
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    model.save_pretrained(job.folder)
    tokenizer.save_pretrained(job.folder)
    pixels = {"shortest_edge": shape.side**2, "longest_edge": shape.side**2}
    pictures = Qwen2VLImageProcessorPil(patch_size=PATCH, merge_size=MERGE, size=pixels)
    pictures.save_pretrained(job.folder)
    return Found({"parameters": sum(own.numel() for own in model.parameters())})


def _config(shape: Shape, tokenizer: Any) -> Qwen3VLConfig:
    (depth, seen), (layers, width) = shape.tower, shape.decoder
    text = dict(
        vocab_size=-(-len(tokenizer) // 32) * 32,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        num_key_value_heads=max(1, width // HEAD // 3),
        head_dim=HEAD,
        max_position_embeddings=8192,
        rope_parameters=dict(
            rope_type="default",
            rope_theta=10000.0,
            mrope_section=[12, 10, 10],
            mrope_interleaved=True,
        ),
    )
    vision = dict(
        depth=depth,
        hidden_size=seen,
        intermediate_size=4 * seen,
        num_heads=seen // HEAD,
        patch_size=PATCH,
        spatial_merge_size=MERGE,
        temporal_patch_size=2,
        out_hidden_size=width,
        num_position_embeddings=(shape.side // PATCH) ** 2,
        deepstack_visual_indexes=sorted({depth // 4, depth // 2}),
    )
    ids = tokenizer.convert_tokens_to_ids([IMAGE, VIDEO, VISION_START, VISION_END])
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        **dict(zip(names, ids, strict=True)),
    )

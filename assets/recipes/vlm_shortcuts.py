"""Faster training of a Qwen3-VL on a CPU, with the same weights and the same results.

The only recipe that reaches into transformers' classes.
"""

# transformers annotates less than it takes and returns.
# pyright: reportAttributeAccessIssue=false

import functools

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLVisionAttention,
    Qwen3VLVisionPatchEmbed,
    apply_rotary_pos_emb_vision,
)


def accelerate(model: Qwen3VLForConditionalGeneration) -> None:
    """Replace two slow steps of the vision half for training on images of one size.

    Conv3d over whole patches becomes a matrix product, and attention that loops over images becomes
    one batched attention. Saved weights are the same and load in the stock class.
    """
    visual = model.model.visual
    visual.patch_embed.forward = functools.partial(embed_patches, visual.patch_embed)
    for block in visual.blocks:
        block.attn.forward = functools.partial(attend_in_equal_images, block.attn)


def compile_layers(model: Qwen3VLForConditionalGeneration) -> None:
    """Compile the layers of both halves, once for each length of the text."""
    for layer in [*model.model.visual.blocks, *model.model.language_model.layers]:
        layer.compile(dynamic=False)


def embed_patches(layer: Qwen3VLVisionPatchEmbed, patches: Tensor) -> Tensor:
    return F.linear(patches, layer.proj.weight.flatten(1), layer.proj.bias)


def attend_in_equal_images(
    layer: Qwen3VLVisionAttention,
    hidden_states: Tensor,
    cu_seqlens: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    **ignored: object,
) -> Tensor:
    images, heads = len(cu_seqlens) - 1, layer.num_heads
    parts = layer.qkv(hidden_states).unflatten(1, (3, heads, -1)).unbind(1)
    query, key = apply_rotary_pos_emb_vision(parts[0], parts[1], *position_embeddings)
    query, key, value = (
        part.unflatten(0, (images, -1)).transpose(1, 2) for part in (query, key, parts[2])
    )
    scores = query @ key.transpose(2, 3) * layer.scaling
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    return layer.proj((weights @ value).transpose(1, 2).flatten(2).flatten(0, 1))

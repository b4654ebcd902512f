"""Whole blocks of diffusers on a CPU, where what is fused crosses the borders of their modules.

A block is chosen by its class and settings; its projections, convolutions and attention are called
as the modules they are, so that adapters, hooks and whatever else lies on them goes on working.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from mindsd.prepack import After, followed

from .cpu_fused_kernels import DTYPES, group_norm
from .cpu_fused_norms import drawn, is_layer_norm, modulate, plain, usable
from .npu_offer import TOLERANCES, Offer, changed

OUTPUT = "_get_output_for_continuous_inputs"  # of Transformer2DModel


def resnet(module: Any) -> Offer | None:
    """For a residual block: each norm with the activation after it and the time before it."""
    kind = type(module)
    if kind is not ResnetBlock2D or module.time_embedding_norm == "scale_shift":
        return None
    norms = module.norm1, module.norm2
    if not all(type(own) is nn.GroupNorm and own.affine and plain(own) for own in norms):
        return None
    resized = module.upsample is not None or module.downsample is not None
    if resized or type(module.nonlinearity) is not nn.SiLU:
        return None

    def run(
        original: Callable[..., Tensor],
        input_tensor: Tensor,
        temb: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        x, more = input_tensor, args or kwargs
        timed = (module.time_emb_proj is None) is (temb is None)
        kept = module.conv2._forward_hooks  # somebody may keep what it gives
        fits = x.dim() == 4 and x.shape[1] == module.norm1.num_channels
        if more or not timed or kept or not fits or any(map(changed, norms)):
            return original(x, temb, *args, **kwargs)
        if not usable(x, *(own.weight for own in norms)):
            return original(x, temb)
        hidden = module.conv1(_normed(module.norm1, x))
        hidden = module.dropout(_normed(module.norm2, hidden, _time(module, temb)))
        shortcut = x if module.conv_shortcut is None else module.conv_shortcut(x)
        added = _added(module.conv2, hidden, shortcut)
        factor = module.output_scale_factor
        return added if factor == 1 else added.div_(factor)

    def trials() -> Iterator[tuple[Tensor, Tensor]]:
        dtype, time = module.norm1.weight.dtype, module.time_emb_proj
        x = drawn(2, module.in_channels, 6, 5).to(dtype)
        temb = None if time is None else drawn(2, time.in_features).to(dtype)
        yield module.forward(x, temb), run(module.forward, x, temb)

    return Offer("resnet", module, run, trials, TOLERANCES[module.norm1.weight.dtype])


def _normed(norm: nn.GroupNorm, x: Tensor, add: Tensor | None = None) -> Tensor:
    return group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps, "silu", add)


def _added(layer: nn.Module, x: Tensor, other: Tensor) -> Tensor:
    """layer(x) + other, in the memory that the layer makes."""
    found = followed(layer, x, After(add=other))
    if found is not None:
        return found
    made = layer(x)
    return made.add_(other) if made.dtype is other.dtype else made + other


def _time(module: Any, temb: Tensor | None) -> Tensor | None:
    if temb is None:
        return None
    return module.time_emb_proj(temb if module.skip_time_act else module.nonlinearity(temb))


def tokens_to_image(module: Any) -> Offer | None:
    """For what a transformer of images gives: it lies channels last already, and stays so."""
    kind = type(module)
    if kind is not Transformer2DModel or not module.is_input_continuous:
        return None
    weight = module.proj_out.weight
    if weight.dtype not in DTYPES:
        return None

    def run(
        original: Callable[..., Tensor],
        hidden_states: Tensor,
        residual: Tensor,
        batch_size: int,
        height: int,
        width: int,
        inner_dim: int,
    ) -> Tensor:
        shape = batch_size, height, width, inner_dim
        if module.proj_out._forward_hooks or not usable(hidden_states):
            return original(hidden_states, residual, *shape)
        if module.use_linear_projection:
            hidden_states = module.proj_out(hidden_states)
        image = hidden_states.reshape(shape).permute(0, 3, 1, 2)
        if not module.use_linear_projection:
            return _added(module.proj_out, image, residual)
        return image.add_(residual)

    def trials() -> Iterator[tuple[Tensor, Tensor]]:
        inner = weight.shape[1]
        hidden, residual = drawn(2, 30, inner), drawn(2, module.out_channels, 6, 5)
        given = hidden.to(weight.dtype), residual.to(weight.dtype), 2, 6, 5, inner
        own = getattr(module, OUTPUT)
        yield own(*given), run(own, *given)

    return Offer("tokens_to_image", module, run, trials, TOLERANCES[weight.dtype])


def dit_block(module: Any) -> Offer | None:
    """For a block whose norms and results the time scales (adaLN-single, arXiv:2310.00426)."""
    kind = type(module)
    if kind is not BasicTransformerBlock or module.norm_type != "ada_norm_single":
        return None
    norms = module.norm1, module.norm2
    if module.pos_embed is not None or not all(map(is_layer_norm, norms)):
        return None
    dtype = module.scale_shift_table.dtype
    if hasattr(module, "fuser") or dtype not in DTYPES:
        return None

    def run(
        original: Callable[..., Tensor], hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        names = "attention_mask", "encoder_hidden_states", "encoder_attention_mask", "timestep"
        mask, context, context_mask, time = (kwargs.get(name) for name in names)
        more = any(own is not None for name, own in kwargs.items() if name not in names)
        wide = hidden_states.shape[-1] == module.scale_shift_table.shape[-1]
        fits = hidden_states.dim() == 3 and wide and module._chunk_size is None
        if args or more or time is None or not fits or any(map(changed, norms)):
            return original(hidden_states, *args, **kwargs)
        if not usable(hidden_states, module.scale_shift_table):
            return original(hidden_states, **kwargs)
        table = module.scale_shift_table[None] + time.reshape(len(hidden_states), 6, -1)
        shift, scale, gate, last_shift, last_scale, last_gate = table.unbind(1)
        x = modulate(module.norm1, hidden_states, scale, shift)
        alone = context if module.only_cross_attention else None
        x = module.attn1(x, encoder_hidden_states=alone, attention_mask=mask)
        x = torch.addcmul(hidden_states, gate[:, None], x)
        if module.attn2 is not None:
            told = {"encoder_hidden_states": context, "attention_mask": context_mask}
            x = module.attn2(x, **told) + x
        gated = module.ff(modulate(module.norm2, x, last_scale, last_shift))
        return torch.addcmul(x, last_gate[:, None], gated)

    def trials() -> Iterator[tuple[Tensor, Tensor]]:
        width = module.scale_shift_table.shape[-1]
        x, time = drawn(2, 5, width).to(dtype), drawn(2, 6 * width).to(dtype)
        given: dict[str, Any] = {"timestep": time}
        if module.attn2 is not None:
            across = module.attn2.to_k.in_features
            given["encoder_hidden_states"] = drawn(2, 3, across).to(dtype)
        yield module.forward(x, **given), run(module.forward, x, **given)

    return Offer("dit_block", module, run, trials, TOLERANCES[dtype])

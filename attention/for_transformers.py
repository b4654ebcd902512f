"""Puts our paged attention into any transformers language model, and takes it off again.

transformers calls attention and masks by the name in a model's config. Ours is registered under
names of its own; a model that was given one runs as always outside of a step, and over pages inside
of one. Masks are not built: what a model passes on is the rule itself, and attention asks it about
the positions that it has.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    AttentionMaskInterface,
    causal_mask_function,
    sliding_window_causal_mask_function,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from mindsd.errors import AttentionRefused, ModelError, RequestError
from mindsd.kvcache.step import Step, present_step

from .paged import attend
from .paged_call import PagedCall, Sight, default_scale
from .registry import Registry, default_registry

# What a model ran with before, and our name where it did. Into names with paged|, sdpa, flash or
# flex_attention transformers reads more than a name.
NAMES = {"sdpa": "mindsd", "eager": "mindsd_eager"}


class Rule(Tensor):
    """An empty tensor that carries a mask's rule through a model; see `_mask`."""

    sight: Sight


class AttachedLanguage:
    """Our attention on one model; made by `attach_language`."""

    def __init__(self, model: Any):
        self._model, self._part = model, _text_part(model.config)
        self._before = model.config.get_text_config(decoder=True)._attn_implementation
        if self._before in NAMES.values():
            raise RequestError(
                f"this {type(model).__name__} already runs on an engine; make all pipelines from "
                "one LanguageModel, or close the other first"
            )
        self._set(NAMES.get(self._before, NAMES["sdpa"]))

    def remove(self) -> None:
        """The model as it was; doing it twice does nothing."""
        self._set(self._before)

    def _set(self, name: str) -> None:
        """Only where text is attended to: towers that see images are no business of pages."""
        wished = name if self._part is None else {self._part: name}
        self._model.set_attn_implementation(wished)


def _text_part(config: Any) -> str | None:
    """The part of a model's config that describes its decoder; None where it is all of it."""
    text = config.get_text_config(decoder=True)
    if text is config:
        return None
    found = [name for name in config.sub_configs if getattr(config, name, None) is text]
    if not found:
        raise ModelError(f"a {type(config).__name__} has no part of its own for text")
    return found[0]


def attach_language(model: Any, registry: Registry | None = None) -> AttachedLanguage:
    """Let a transformers model attend over pages, inside of steps.

    Args:
        model: a decoder, whose attention goes through transformers' interface.
        registry: whose backends answer for long segments.

    Raises:
        RequestError: it is attached already.
    """
    chosen = registry or default_registry()
    for before, name in NAMES.items():
        AttentionInterface.register(name, partial(_attention, chosen, before))
        AttentionMaskInterface.register(name, partial(_mask, before))
    return AttachedLanguage(model)


def _attention(
    registry: Registry, before: str, module: Any, *args: Any, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Over pages in a step, and what the model had before elsewhere."""
    step = present_step()
    if step is not None:
        return _paged(step, registry, module, *args, **kwargs), None
    own: Any = sys.modules[type(module).__module__]
    eager: Any = getattr(own, "eager_attention_forward", None)  # transformers' word for it
    return ALL_ATTENTION_FUNCTIONS.get_interface(before, eager)(module, *args, **kwargs)


def _mask(before: str, *args: Any, **kwargs: Any) -> Tensor | None:
    """In a step the rule of a mask instead of the mask."""
    if present_step() is None:
        return ALL_MASK_ATTENTION_FUNCTIONS[before](*args, **kwargs)
    function = kwargs.get("mask_function", causal_mask_function)
    rule: Any = torch.empty(0).as_subclass(Rule)
    window = kwargs.get("local_size")
    windowed = window is not None and _same(function, sliding_window_causal_mask_function(window))
    causal = function is causal_mask_function
    rule.sight = Sight(_asked(function), causal, window if windowed else None)
    return rule


def _same(one: Any, other: Any) -> bool:
    """Whether two functions are the same code over the same constants: transformers makes its
    rules anew in every forward, as functions in functions."""
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        return all(map(_same, one, other))
    if not isinstance(one, FunctionType) or not isinstance(other, FunctionType):
        return type(one) is type(other) is int and one == other
    if one is other:
        return True
    cells = [[cell.cell_contents for cell in own.__closure__ or ()] for own in (one, other)]
    return one.__code__ is other.__code__ and _same(*map(tuple, cells))


def _asked(function: Callable[..., Any]) -> Callable[[Tensor, Tensor], Tensor]:
    def rule(queries: Tensor, keys: Tensor) -> Tensor:
        zero = queries.new_zeros(())
        seen = function(zero, zero, queries, keys)
        return torch.broadcast_to(seen, torch.broadcast_shapes(queries.shape, keys.shape))

    return rule


def _paged(
    step: Step,
    registry: Registry,
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **other: Any,
) -> Tensor:
    """[1, T, H, Dv]: transformers' own arguments, answered over the pages of a step."""
    layer = getattr(module, "layer_idx", None)
    if layer is None or position_bias is not None or dropout:
        what = "no layer_idx" if layer is None else "position_bias or dropout"
        raise AttentionRefused(f"paged attention: {type(module).__name__} has {what}")
    if query.shape[0] * query.shape[2] != step.tokens:
        raise AttentionRefused(
            f"paged attention: {type(module).__name__} asks about {tuple(query.shape)}, the step "
            f"has {step.tokens} tokens"
        )
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    lane = step.pages.lane_of[layer]
    keys, values = step.pages.of(layer, step.next_call(layer), k, v)
    keys.write_both(values, step.slots[lane], k, v)
    sight = _sight(step, attention_mask, sliding_window)
    scale = default_scale(q.shape[-1]) if scaling is None else scaling
    call = PagedCall(q, keys, values, step, lane, sight, scale, softcap, s_aux)
    return attend(call, registry)[None]


def _sight(step: Step, mask: Tensor | None, window: int | None) -> Sight:
    if isinstance(mask, Rule):
        return mask.sight
    if mask is not None:
        raise AttentionRefused("paged attention: the model made a mask by itself")

    def rule(queries: Tensor, keys: Tensor) -> Tensor:
        seen = keys <= queries
        return seen if window is None else seen & (keys > queries - window)

    return step.plan(("sight", window), lambda: Sight(rule, window is None, window))

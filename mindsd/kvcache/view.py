"""The cache that transformers sees: it answers how long the past is, and keeps nothing.

Keys and values are written by attention itself (attention/paged.py), for that alone sees them as
they are attended to: MLA, differential attention and layers that share another's keys differ here.
This file is the only one that knows transformers' caches.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DummyLayer,
    get_layer_types_and_kwargs,
)

from mindsd.errors import ModelError

from .step import present_step

FULL = ("full_attention", "chunked_attention", "dummy")  # chunks are a matter of masks only
WINDOWED = ("sliding_attention",)


def windows(config: Any) -> list[int | None]:
    """The window of each layer; None where a token sees all before it.

    Raises:
        ModelError: a layer keeps something else than keys and values of tokens.
    """
    types, kwargs = get_layer_types_and_kwargs(config.get_text_config(decoder=True))
    unknown = sorted({kind for kind in types if kind not in FULL + WINDOWED})
    if unknown:
        raise ModelError(
            f"layers of {', '.join(unknown)} keep a state that is no page of keys and values"
        )
    return [
        own["sliding_window"] if kind in WINDOWED else None
        for kind, own in zip(types, kwargs, strict=True)
    ]


class PagedLayer(CacheLayerMixin):
    """One layer: what is put in comes out again."""

    def __init__(self, window: int | None):
        super().__init__()
        self.is_sliding = window is not None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        step = present_step()
        return 0 if step is None else step.past

    def get_max_length(self) -> int:
        return -1


class PagedCache(Cache):
    """Given to a model as `past_key_values`; one serves all its forwards."""

    def __init__(self, config: Any):
        types, _ = get_layer_types_and_kwargs(config.get_text_config(decoder=True))
        layers: list[Any] = [
            DummyLayer() if kind == "dummy" else PagedLayer(window)
            for kind, window in zip(types, windows(config), strict=True)
        ]
        super().__init__(layers=layers)

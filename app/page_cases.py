"""Who answers the attention of texts, whose keys lie in pages: a row of `mindsd doctor`.

Imports torch; the commands import this file when they run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mindsd.attention.paged_call import PagedCall, Sight
from mindsd.attention.registry import Registry, default_registry
from mindsd.device import Device, find_device
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Segment, Step
from mindsd.kvcache.table import Lane
from mindsd.pipelines.cache_options import BLOCKS

from .attention_cases import Answer

HEADS, KV_HEADS, WIDTH = 8, 2, 128  # as most language models have them
PLAIN = "paged"  # plain operations, which answer where no backend for pages does


def explain_pages(kinds: Sequence[str], registry: Registry | None = None) -> list[Answer]:
    """Who decodes a token over pages on every kind of device, in the dtype that is fast there."""
    asked = registry or default_registry()
    return [_answer(asked, find_device(kind)) for kind in kinds]


def _answer(registry: Registry, device: Device) -> Answer:
    reasons = registry.explain_paged(_call(device))
    takers = [name for name, reason in reasons if reason is None]
    refused = {name: reason for name, reason in reasons if reason is not None}
    dtype = str(device.dtype).removeprefix("torch.")
    answered, *unasked = [*takers, PLAIN]
    return Answer("text over pages", device.kind, dtype, answered, refused, unasked)


def _call(device: Device) -> PagedCall:
    """The first token of a text."""
    size = BLOCKS[device.kind]
    new = torch.zeros(1, KV_HEADS, WIDTH, dtype=device.dtype, device=device.torch)
    query = torch.zeros(1, HEADS, WIDTH, dtype=device.dtype, device=device.torch)
    store = PageStore([1], size, [0], "auto")
    keys, values = store.of(0, 0, new, new)
    step = Step([Segment(0, 1, 0, [[0]])], store, [Lane(BlockPool(1, size), None)], device.torch)
    sight = Sight(lambda queries, keys: keys <= queries, causal=True)
    return PagedCall(query, keys, values, step, 0, sight, WIDTH**-0.5)

"""What transformers sees as its cache: windows by configuration, a length, and no memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig

from mindsd.errors import ModelError
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Segment, Step, stepping
from mindsd.kvcache.table import Lane
from mindsd.kvcache.view import PagedCache, PagedLayer, windows

FULL, SLIDING = "full_attention", "sliding_attention"


def config(kind: str, **options):
    return AutoConfig.for_model(kind, num_hidden_layers=4, **options)


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (config("llama"), [None] * 4),
        (config("mistral", sliding_window=9), [9] * 4),
        (config("mistral", sliding_window=None), [None] * 4),
        (config("gemma2", sliding_window=9), [9, None, 9, None]),
        (
            config("gemma3_text", sliding_window=7, layer_types=[SLIDING, FULL, FULL, SLIDING]),
            [7, None, None, 7],
        ),
        (config("llama4_text", attention_chunk_size=8), [None] * 4),
        (
            AutoConfig.for_model(
                "gemma3",
                text_config={"num_hidden_layers": 2, "sliding_window": 5},
                vision_config={"num_hidden_layers": 3},
            ),
            [5, 5],
        ),
    ],
)
def test_the_window_of_each_layer(made, found):
    assert windows(made) == found
    layers: Any = PagedCache(made).layers
    assert [layer.is_sliding for layer in layers] == [window is not None for window in found]


def test_a_layer_that_keeps_another_state_is_refused_by_name():
    mixed = config("qwen3_next", layer_types=["linear_attention", FULL] * 2)
    for refused in (windows, PagedCache):
        with pytest.raises(ModelError, match="layers of linear_attention keep a state"):
            refused(mixed)


def step(*pasts: int) -> Step:
    segments = [Segment(at, 1, past, [[0, 1, 2]]) for at, past in enumerate(pasts)]
    pages, lanes = PageStore([8], 4, [0], "auto"), [Lane(BlockPool(8, 4))]
    return Step(segments, pages, lanes, torch.device("cpu"))


def test_it_is_as_long_as_the_longest_past_of_the_step():
    cache = PagedCache(config("llama"))
    assert cache.get_seq_length() == 0 and cache.get_mask_sizes(3, 0) == (3, 0)
    with stepping(step(3, 8, 5)):
        assert cache.get_seq_length() == 8
        assert [cache.get_mask_sizes(query, 2) for query in (1, 6)] == [(9, 0), (14, 0)]
    assert cache.get_seq_length() == 0


def test_what_is_put_in_comes_out_again_and_nothing_stays():
    cache = PagedCache(config("gemma2", sliding_window=2))
    for number in (6, 1):  # more than the window holds
        key, value = torch.randn(2, 1, 2, number, 8)
        for layer in (0, 1):
            keys, values = cache.update(key, value, layer)
            assert keys is key and values is value
    assert cache.get_seq_length() == 0
    assert [layer.get_max_length() for layer in cache.layers] == [-1] * 4
    held = [own for layer in cache.layers for own in vars(layer).values()]
    assert not any(isinstance(own, torch.Tensor) for own in held)


def test_a_layer_knows_whether_it_slides():
    assert PagedLayer(9).is_sliding and not PagedLayer(None).is_sliding

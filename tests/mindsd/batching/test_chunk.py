"""Chunks end to end: ids, positions, features and places whose logits are wanted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mindsd.batching.chunk import Chunk, pack
from mindsd.batching.placeholders import Placeholders
from mindsd.batching.sequence import Sequence
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.prefix import root
from mindsd.kvcache.table import BlockTable, Lane

IMAGE = 9
CPU = torch.device("cpu")


def sequence(tokens: list[int], value: float = 0, whole: Any = (), **more: Any) -> Sequence:
    """With features of `value`, `value` + 1, ... in the place of its image tokens."""
    places = [place for place, token in enumerate(tokens) if token == IMAGE]
    features = value + torch.arange(float(len(places)))[:, None]
    names = [-1 - at if token == IMAGE else token for at, token in enumerate(tokens)]
    images = Placeholders(places, (features, -features), names, whole, **more) if places else None
    table = BlockTable([Lane(BlockPool(8, 4))], root())
    return Sequence(list(tokens), len(tokens), table, draws=object(), images=images)


def test_texts_and_pictures_in_one_row():
    text, shown = sequence([1, 2, 3]), sequence([4, IMAGE, IMAGE, 5, IMAGE, 6], 20)
    other = sequence([IMAGE, 7], 50)
    shown.draft = [8, 8]
    chunks = [
        Chunk(text, 2, 3, draws=True),
        Chunk(other, 0, 1, draws=False),
        Chunk(shown, 2, 8, draws=True),
    ]
    packed = pack(chunks, CPU)
    assert packed.ids.tolist() == [[3, 9, 9, 5, 9, 6, 8, 8]]
    assert packed.positions.tolist() == [[2, 0, 2, 3, 4, 5, 6, 7]]
    assert packed.index.tolist() == [0, 5, 6, 7]
    tower, deep = packed.features
    assert tower.flatten().tolist() == [50, 21, 22] and deep.flatten().tolist() == [-50, -21, -22]
    assert [(own.start, own.length, own.past) for own in packed.segments] == [
        (0, 1, 2),
        (1, 1, 0),
        (2, 6, 2),
    ]


def test_without_pictures_there_are_no_features():
    text, shown = sequence([1, 2, 3]), sequence([4, IMAGE, 5], 20)
    packed = pack([Chunk(text, 0, 3, draws=False), Chunk(shown, 2, 3, draws=False)], CPU)
    assert packed.features == () and packed.index.tolist() == [3]
    assert [own.whole for own in packed.segments] == [(), ()]


def test_four_axes_of_positions():
    rotary = torch.tensor([[0, 1, 1, 2], [0, 1, 1, 2], [0, 1, 2, 2]])
    shown = sequence([4, IMAGE, IMAGE, 5], rotary=rotary, delta=-1)
    text = sequence([1, 2, 3])
    shown.draft = [6]
    chunks = [Chunk(text, 1, 3, draws=False), Chunk(shown, 2, 5, draws=True)]
    packed = pack(chunks, CPU, axes=4)
    assert packed.positions.shape == (4, 1, 5)
    assert packed.positions[:, 0].tolist() == [
        [1, 2, 2, 3, 4],  # of the text: where it stands
        [1, 2, 1, 2, 3],  # time, and after the prompt one less
        [1, 2, 1, 2, 3],
        [1, 2, 2, 2, 3],
    ]


def test_a_segment_knows_the_pictures_it_has_a_part_of():
    own = sequence([1, IMAGE, IMAGE, IMAGE, 2, IMAGE, IMAGE, 3], whole=((1, 4), (5, 7)))
    [segment] = pack([Chunk(own, 2, 5, draws=False)], CPU).segments
    assert segment.whole == ((1, 4),)
    [segment] = pack([Chunk(own, 4, 5, draws=False)], CPU).segments
    assert segment.whole == ()


@pytest.mark.parametrize(
    ("start", "stop", "divisible"),
    [(0, 1, False), (0, 4, True), (1, 4, False), (2, 4, False), (1, 5, True), (4, 8, True)],
)
def test_what_could_be_computed_in_parts(start, stop, divisible):
    own = sequence([1, IMAGE, IMAGE, IMAGE, 2, 3, 3, 3], whole=((1, 4),))
    assert Chunk(own, start, stop, draws=False).divisible is divisible


def test_a_picture_read_from_left_to_right_is_divisible():
    own = sequence([1, IMAGE, IMAGE, IMAGE, 2])
    assert Chunk(own, 1, 4, draws=False).divisible

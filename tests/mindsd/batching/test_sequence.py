"""A sequence: what is left to compute, who goes first, and what its tokens are known by."""

from __future__ import annotations

import torch

from mindsd.batching.placeholders import Placeholders
from mindsd.batching.sequence import Sequence
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.prefix import root
from mindsd.kvcache.table import BlockTable, Lane

SIZE = 4


def sequence(tokens: list[int], lanes: list[Lane] | None = None, **more) -> Sequence:
    own = lanes or [Lane(BlockPool(8, SIZE))]
    return Sequence(tokens, len(tokens), BlockTable(own, root()), **more)


def test_higher_priority_goes_first_and_among_equals_the_older():
    old, young, urgent, low = (sequence([1], priority=own) for own in (0, 0, 5, -1))
    assert sorted([low, young, urgent, old], key=lambda own: own.order) == [urgent, old, young, low]


def test_the_last_token_is_left_out_where_none_is_drawn():
    quiet, drawing = sequence([5, 6, 7]), sequence([5, 6, 7], draws=object())
    assert (quiet.target, quiet.left) == (2, 2) and (drawing.target, drawing.left) == (3, 3)
    quiet.computed = drawing.computed = 2
    assert (quiet.left, drawing.left) == (0, 1)
    drawing.tokens.append(8)
    drawing.draft += [9, 9]
    assert drawing.left == 2  # a draft is no token yet


def test_a_text_is_known_by_its_tokens():
    own = sequence([5, 6, 7], draws=object())
    own.tokens.append(8)
    assert own.names == [5, 6, 7, 8] and own.whole(1, 2) == 2


def shown(whole: bool) -> Sequence:
    """Two tokens of text, three of an image, one of text."""
    names = [5, 6, -71, -72, -73, 7]
    places, features = [2, 3, 4], torch.zeros(3, 1)
    images = Placeholders(places, (features,), names, ((2, 5),) if whole else ())
    return sequence([5, 6, 9, 9, 9, 7], draws=object(), images=images)


def test_an_image_is_known_by_its_content_and_what_is_drawn_by_its_tokens():
    own = shown(whole=True)
    assert own.names == [5, 6, -71, -72, -73, 7]
    for token in (8, 9):
        own.tokens.append(token)
        assert own.names == [5, 6, -71, -72, -73, 7, 8, 9][: len(own.tokens)]
    assert own.tokens == [5, 6, 9, 9, 9, 7, 8, 9]
    assert own.images is not None and own.images.names == [5, 6, -71, -72, -73, 7]


def test_an_image_whose_tokens_see_each_other_is_not_divided():
    own = shown(whole=True)
    assert [own.whole(0, length) for length in (1, 2, 3, 4, 5, 6)] == [1, 2, 2, 2, 5, 6]
    assert own.whole(2, 1) == 3  # it is the first: all of it, or nothing would go on
    assert [shown(whole=False).whole(0, length) for length in (1, 3, 6)] == [1, 3, 6]


def test_what_was_computed_is_found_again_after_a_release():
    lanes = [Lane(BlockPool(8, SIZE))]
    own = sequence([1, 2, 3, 4, 5, 6], lanes, draws=object())
    own.table.reserve(0, 6)
    own.table.computed(own.names, 6)
    own.computed = 6
    own.release()
    assert own.computed == 0 and own.left == 6 and not own.table.holds_any
    assert lanes[0].pool.counts == (7, 0, 1)
    assert own.table.reuse(own.names) == (4, [])
    own.release()
    own.release()
    lanes[0].pool.check()

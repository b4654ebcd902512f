"""Images in a prompt: which rows of features its tokens get, where they are, how they are named."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mindsd.batching.placeholders import Placeholders, check_apart, names_of, runs
from mindsd.errors import RequestError

#        0  1  2    3    4    5  6    7    8  9
NAMES = [4, 5, -10, -11, -12, 6, -20, -21, 7, 8]
PLACES = (2, 3, 4, 6, 7)
WHOLE = ((2, 5), (6, 8))


def made(**more) -> Placeholders:
    rows = torch.arange(5.0)[:, None]
    return Placeholders(PLACES, (rows, 10 + rows.expand(5, 2)), NAMES, **more)


@pytest.mark.parametrize(
    ("start", "stop", "rows"),
    [(0, 10, [0, 1, 2, 3, 4]), (3, 7, [1, 2, 3]), (4, 5, [2]), (5, 6, []), (0, 2, []), (8, 20, [])],
)
def test_features_of_a_part_are_those_of_its_places(start, stop, rows):
    found = made().between(start, stop)
    if not rows:
        assert found == ()
        return
    tower, deep = found
    assert tower[:, 0].tolist() == rows and tower.shape == (len(rows), 1)
    assert deep[:, 0].tolist() == [10 + row for row in rows] and deep.shape == (len(rows), 2)


def test_parts_end_to_end_are_all_features():
    own = made()
    parts = [own.between(at, at + 3) for at in range(0, 10, 3)]
    assert torch.cat([part[0] for part in parts if part]).flatten().tolist() == [0, 1, 2, 3, 4]


def test_a_model_that_counts_tokens_counts_them_in_all_axes():
    assert made().positions(3, 6).tolist() == [[3, 4, 5]] * 3
    assert made(delta=-2).positions(12, 14).tolist() == [[10, 11]] * 3


def test_positions_are_those_known_then_text_goes_on_with_its_delta():
    rotary = torch.stack([torch.arange(10) + 100 * axis for axis in range(3)])
    own = made(rotary=rotary, delta=-3)
    assert torch.equal(own.positions(0, 10), rotary)
    assert torch.equal(own.positions(4, 7), rotary[:, 4:7])
    assert own.positions(8, 12).tolist() == [[8, 9, 7, 8], [108, 109, 7, 8], [208, 209, 7, 8]]
    assert own.positions(11, 13).tolist() == [[8, 9]] * 3
    own.positions(0, 10).zero_()  # what was given is nobody's to change
    assert torch.equal(own.positions(0, 10), rotary)


@pytest.mark.parametrize(
    ("start", "stop", "ends"),
    [
        (0, 2, 2),  # ends where a picture begins
        (0, 3, 2),  # would divide it: before it
        (0, 5, 5),  # ends with it
        (2, 3, 5),  # begins with it: all of it
        (3, 4, 5),  # the rest of one that began in the cache
        (2, 7, 6),
        (5, 6, 6),
        (5, 7, 6),
        (6, 7, 8),
        (8, 10, 10),
        (12, 13, 13),
    ],
)
def test_a_forward_ends_before_what_it_would_divide_or_behind_it(start, stop, ends):
    assert made(whole=WHOLE).cut(start, stop) == ends
    assert made().cut(start, stop) == stop


def test_the_spans_of_a_part():
    own = made(whole=WHOLE)
    assert own.spans(0, 10) == WHOLE
    assert own.spans(4, 6) == ((2, 5),) and own.spans(4, 7) == WHOLE
    assert own.spans(0, 2) == own.spans(5, 6) == own.spans(8, 10) == ()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(1, 6), min_size=1, max_size=20))
def test_whatever_the_pieces_no_picture_is_divided_and_all_goes_on(cuts):
    own, start = made(whole=WHOLE), 0
    for length in cuts * 10:
        stop = own.cut(start, start + length)
        assert start < stop and not any(first < stop < end for first, end in WHOLE)
        start = stop
        if start >= len(NAMES):
            return
    raise AssertionError("it did not come to its end")


def test_what_does_not_belong_together_is_a_bug():
    with pytest.raises(AssertionError):
        Placeholders((1, 2), (torch.zeros(3, 4),), [1, 2, 3])
    with pytest.raises(AssertionError):
        Placeholders((1,), (torch.zeros(1, 4),), [1, 2], rotary=torch.zeros(3, 5))
    with pytest.raises(AssertionError, match="ends with text"):
        Placeholders((0, 1), (torch.zeros(2, 4),), [1, 2], whole=((0, 2),))


def test_runs_of_places():
    assert list(runs([])) == []
    assert list(runs([3])) == [(3, 4)]
    assert list(runs([0, 1, 2, 5, 6, 9])) == [(0, 3), (5, 7), (9, 10)]


def test_names_are_no_text_and_no_two_are_alike():
    names = [name for image in range(50) for name in names_of(bytes([image]) * 16, 100)]
    assert len(set(names)) == len(names) == 5000
    assert all(-(2**63) <= name < 0 for name in names)
    assert names_of(b"a" * 16, 5)[:3] == names_of(b"a" * 16, 3)


def test_pictures_that_see_each_other_stand_apart_and_not_at_the_end():
    check_apart([(2, 5), (6, 9)], [2, 6], 12)
    with pytest.raises(RequestError, match="ends with text"):
        check_apart([(2, 5)], [2], 5)
    with pytest.raises(RequestError, match="side by side"):
        check_apart([(2, 8)], [2, 5], 12)

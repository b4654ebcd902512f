"""Image tokens merged or dropped: what stays, in what order, and what it stands for."""

from __future__ import annotations

import pytest
import torch

from mindsd.errors import RequestError
from mindsd.tokenmerge.visual import LEAST, VisualMerge, diverse


def tokens(number: int, dim: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("way", ["match", "diverse"])
@pytest.mark.parametrize("number", [1, 4, 5, 16, 63, 64])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75])
def test_as_many_stay_as_were_said_in_their_order(way, number, ratio):
    merge, own = VisualMerge(ratio, way), (tokens(number), tokens(number, 3, 1))
    kept, features = merge.apply(own)
    left = merge.left(number)
    assert len(kept) == left and [len(part) for part in features] == [left, left]
    assert kept.tolist() == sorted(set(kept.tolist())) and kept.max() < number
    assert left >= min(number, LEAST) and number - left <= ratio * number


def test_alike_tokens_become_their_mean_and_other_layers_follow():
    own, deep = tokens(8), tokens(8, 3, 1)
    own[5] = own[4] * 1.01  # token 4 is one that others merge into
    kept, (first, second) = VisualMerge(0.13).apply((own, deep))
    assert kept.tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert torch.allclose(first[4], (own[4] + own[5]) / 2)
    assert torch.allclose(second[4], (deep[4] + deep[5]) / 2)
    rest = [0, 1, 2, 3, 6, 7]
    assert torch.equal(first[[0, 1, 2, 3, 5, 6]], own[rest])


def test_equal_tokens_merge_into_themselves():
    own = tokens(1).expand(16, -1)
    _, (merged,) = VisualMerge(0.75).apply((own,))
    assert torch.allclose(merged, own[: len(merged)], atol=1e-6)


def test_the_most_unlike_stay_as_they_are():
    own = torch.cat([tokens(1).repeat(20, 1) + 0.01 * tokens(20), 3 * tokens(4, seed=3)])
    kept, (left,) = VisualMerge(0.79, "diverse").apply((own,))
    assert {20, 21, 22, 23} <= set(kept.tolist()) and torch.equal(left, own[kept])


def test_every_choice_is_the_farthest_from_those_before_it():
    own = tokens(30)
    order = diverse(own, 30).tolist()
    assert sorted(order) == list(range(30))
    wide = torch.nn.functional.normalize(own, dim=-1)
    apart = 1 - wide @ wide.T
    for count in range(1, 30):
        nearest = apart[:, order[:count]].min(1).values
        nearest[order[:count]] = -1
        assert nearest[order[count]] == nearest.max()


@pytest.mark.parametrize("text", ["0.5", "diverse:0.9", "0.25"])
def test_what_is_said_is_read_again(text):
    assert str(VisualMerge.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["much", "0", "-1", "nan", "0.8", "diverse:1", "sorted:0.5", "1:2"]
)
def test_what_cannot_be_is_refused_by_name(text):
    with pytest.raises(RequestError, match="image token"):
        VisualMerge.parse(text)


def test_merges_that_differ_say_so():
    assert str(VisualMerge(0.5)) != str(VisualMerge(0.4999999))
    with pytest.raises(RequestError, match="image token"):
        VisualMerge(10**400)

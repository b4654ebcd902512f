"""Tokens that are merged come back as what they were merged into."""

import pytest
import torch

from mindsd.errors import RequestError
from mindsd.tokenmerge.match import Matchings, destinations, match
from mindsd.tokenmerge.plan import TokenMerge


def tokens(count=64, width=8, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_every_cell_has_one_destination_and_a_seed_says_which():
    chosen = destinations(8, 6, seed=3).reshape(4, 2, 3, 2)
    assert chosen.sum((1, 3)).eq(1).all()
    assert torch.equal(destinations(8, 6, 3), destinations(8, 6, 3))
    assert not torch.equal(destinations(8, 6, 3), destinations(8, 6, 4))


def test_an_odd_side_leaves_its_last_tokens_as_sources():
    chosen = destinations(5, 5, seed=0)
    assert chosen.sum() == 4 and not chosen.reshape(5, 5)[4].any()


def test_nothing_is_lost_and_means_are_weighted():
    x = tokens()
    found = match(x, destinations(8, 8, 0), 20)
    assert sorted([*found.kept.tolist(), *found.merged.tolist()]) == list(range(64))
    merged = Matchings.of([found]).merge(x[None])[0]
    assert torch.allclose((merged * found.shares[:, None]).sum(0), x.sum(0), atol=1e-4)
    for place, share in enumerate(found.shares.tolist()):
        group = [int(found.kept[place]), *found.merged[found.into == place].tolist()]
        assert len(group) == share
        assert torch.allclose(merged[place], x[group].mean(0), atol=1e-6)


def test_unmerging_gives_every_token_its_groups_value():
    x = tokens()
    matchings = Matchings.of([match(x, destinations(8, 8, 0), 20)])
    back = matchings.unmerge(matchings.merge(x[None]))[0]
    kept = matchings.kept[0][matchings.shares[0, :, 0] == 1]
    assert torch.equal(back[kept], x[kept])
    assert back.unique(dim=0).shape[0] == 44


def test_equal_tokens_are_merged_without_loss():
    cell = torch.arange(8) // 2
    x = tokens(16)[(cell[:, None] * 4 + cell).flatten()]  # the four of a value lie in one cell
    matchings = Matchings.of([match(x, destinations(8, 8, 1), 48)])
    assert torch.allclose(matchings.unmerge(matchings.merge(x[None]))[0], x, atol=1e-6)


def test_rows_have_their_own_matchings():
    both = torch.stack([tokens(seed=1), tokens(seed=2)])
    found = [match(one, destinations(8, 8, 0), 16) for one in both]
    merged = Matchings.of(found).merge(both)
    for i, one in enumerate(found):
        assert torch.equal(merged[i], Matchings.of([one]).merge(both[i : i + 1])[0])


@pytest.mark.parametrize("text", ["0", "0.8", "-1", "nan", "x", "upsample"])
def test_what_cannot_be_asked(text):
    with pytest.raises(RequestError):
        TokenMerge.parse(text)


def test_texts_are_read_and_written():
    assert [str(TokenMerge.parse(text)) for text in ("0.4", "downsample")] == ["0.4", "downsample"]

"""top_k, top_p and min_p keep what transformers keeps, and the quick way is the full sort's."""

import math
import random

import pytest
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from mindsd.sampling import candidates
from mindsd.sampling.candidates import Limits, draw_among, kept, leading

NO_TOKENS = torch.LongTensor([[]])


def limits(asked, vocabulary, share=None):
    share = torch.zeros(len(asked), dtype=torch.float64) if share is None else share
    return Limits.of(asked, share, vocabulary)


def kept_tokens(scores, asked):
    values, ids = leading(scores, scores.shape[-1])
    weights = scores.softmax(-1).gather(-1, ids)
    count, settled = kept(values, weights, limits(asked, scores.shape[-1]), scores.shape[-1])
    assert settled.all()
    return [set(row[:n].tolist()) for row, n in zip(ids, count[:, 0].tolist(), strict=True)]


def transformers_keeps(scores, k, p, m):
    if k:
        scores = TopKLogitsWarper(k)(NO_TOKENS, scores)
    if p < 1:
        scores = TopPLogitsWarper(p)(NO_TOKENS, scores)
    if m:
        scores = MinPLogitsWarper(m)(NO_TOKENS, scores)
    return set((scores[0] > -math.inf).nonzero()[:, 0].tolist())


def any_asked(rng):
    k = rng.choice([0, 1, 2, 5, 40, 64, 65, 100, 300, 5000])
    return k, rng.choice([1.0, 0.999, 0.9, 0.5, 0.01]), rng.choice([0.0, 0.001, 0.05, 0.7, 1.0])


def test_rows_keep_what_transformers_keeps():
    rng = random.Random(3)
    torch.manual_seed(3)
    for _ in range(20):
        asked = [any_asked(rng) for _ in range(rng.randrange(1, 12))]
        scores = torch.randn(len(asked), 300) * rng.choice([0.3, 1.0, 4.0])
        expected = [transformers_keeps(row[None], *a) for row, a in zip(scores, asked, strict=True)]
        assert kept_tokens(scores, asked) == expected


def test_of_equal_tokens_top_k_keeps_all_and_top_p_the_lowest():
    scores = torch.tensor([[1.0, 2.0, 2.0, 0.0, 2.0, 1.0]])
    assert kept_tokens(scores, [(2, 1.0, 0.0)]) == [{1, 2, 4}]
    assert kept_tokens(scores, [(5, 1.0, 0.0)]) == [{0, 1, 2, 4, 5}]
    assert kept_tokens(scores, [(0, 0.1, 0.0)]) == [{1}]
    assert kept_tokens(scores, [(0, 0.3, 0.0)]) == [{1, 2}]
    assert kept_tokens(scores, [(0, 1.0, 1.0)]) == [{1, 2, 4}]


@pytest.mark.parametrize("coarse", [False, True], ids=["no two equal", "many equal"])
def test_a_few_candidates_draw_the_token_of_the_full_sort(monkeypatch, coarse):
    rng = random.Random(4)
    torch.manual_seed(4)
    for spread in (0.01, 1.0, 5.0):
        asked = [any_asked(rng) for _ in range(40)]
        scores = torch.randn(40, 3000) * spread
        scores = (scores * 4).round() / 4 if coarse else scores
        scores[:5, 20:] = -math.inf  # a grammar that allows few
        ours = limits(asked, 3000, torch.rand(40, dtype=torch.float64))
        quick = draw_among(scores, scores.softmax(-1), ours)
        with monkeypatch.context() as patch:
            patch.setattr(candidates, "WIDTHS", ())
            full = draw_among(scores, scores.softmax(-1), ours)
        assert torch.equal(quick, full)


def test_the_vocabulary_is_sorted_only_when_it_must_be(monkeypatch):
    widths = []

    def watched(scores, width):
        widths.append((len(scores), width))
        return leading(scores, width)

    monkeypatch.setattr(candidates, "leading", watched)
    peaked, flat = torch.arange(3000.0).neg(), torch.zeros(3000)
    masked = torch.where(torch.arange(3000) < 10, 0.0, -math.inf)
    scores = torch.stack([peaked, peaked, flat, masked])
    asked = [(50, 1.0, 0.0), (0, 0.9, 0.0), (0, 0.9, 0.0), (50, 1.0, 0.0)]
    draw_among(scores, scores.softmax(-1), limits(asked, 3000))
    assert widths == [(4, 64), (1, 1024), (1, 3000)]


def test_leading_is_the_beginning_of_a_stable_sort():
    torch.manual_seed(5)
    scores = torch.randint(0, 12, (20, 100)).float()
    scores[:, :5] += 20
    values, ids = scores.sort(stable=True, descending=True)
    for width in (1, 3, 5, 100, 400):
        own, own_ids = leading(scores, width)
        assert torch.equal(own, values[:, :width])
        whole = own > own[:, -1:] if width < 100 else own == own
        assert torch.equal(own_ids[whole], ids[:, :width][whole])

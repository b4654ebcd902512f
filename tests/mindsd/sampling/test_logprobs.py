"""Log-probabilities of the model's own distribution, likeliest first."""

import math

import pytest
import torch

from mindsd.sampling.logprobs import told


def test_each_row_is_told_what_it_asked():
    torch.manual_seed(1)
    logits = torch.randn(4, 60)
    answers = told(logits, [5, 6, 7, 8], [None, 0, 3, 20])
    own = logits.log_softmax(-1)
    assert answers[0] == (None, ())
    assert answers[1] == (pytest.approx(own[1, 6].item()), ())
    assert [len(top) for _, top in answers] == [0, 0, 3, 20]
    for at in (2, 3):
        logprob, top = answers[at]
        assert logprob == pytest.approx(own[at, 5 + at].item())
        values, ids = own[at].sort(descending=True)
        assert [token for token, _ in top] == ids[: len(top)].tolist()
        assert [value for _, value in top] == pytest.approx(values[: len(top)].tolist())


def test_nothing_asked_computes_nothing():
    assert told(torch.empty(2, 0), [1, 2], [None, None]) == [(None, ())] * 2
    assert told(torch.empty(0, 5), [], []) == []


def test_equal_ones_come_by_token_and_impossible_ones_not_at_all():
    logits = torch.full((1, 40), -math.inf)
    logits[0, [30, 4, 9]] = 1.0
    [(logprob, top)] = told(logits, [9], [10])
    assert [token for token, _ in top] == [4, 9, 30]
    assert logprob == pytest.approx(-math.log(3))


def test_a_small_vocabulary_has_fewer():
    [(_, top)] = told(torch.zeros(1, 3), [0], [20])
    assert len(top) == 3

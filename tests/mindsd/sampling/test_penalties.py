"""Bias and penalties against a slow reference and against transformers."""

import random
from collections import Counter

import torch
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from mindsd.sampling.draw import Row
from mindsd.sampling.parameters import Sampling
from mindsd.sampling.penalties import penalise, penalised

VOCABULARY = 50


def slow(scores, row):
    own, said = scores.clone(), row.sampling
    for token, bias in dict(said.logit_bias).items():
        own[token] += bias
    for token in {t for t in row.tokens if 0 <= t < VOCABULARY}:
        positive = own[token] > 0
        own[token] *= 1 / said.repetition_penalty if positive else said.repetition_penalty
    for token, count in Counter(row.tokens[row.prompt :]).items():
        if 0 <= token < VOCABULARY:
            own[token] -= said.frequency_penalty * count + said.presence_penalty
    return own


def any_row(rng):
    sampling = Sampling(
        repetition_penalty=rng.choice([1.0, 1.3, 0.7]),
        presence_penalty=rng.choice([0.0, 0.5, -1.0]),
        frequency_penalty=rng.choice([0.0, 0.25, -0.5]),
        logit_bias={rng.randrange(VOCABULARY): rng.uniform(-5, 5) for _ in range(rng.randrange(4))},
    )
    tokens = [rng.randrange(-3, VOCABULARY + 3) for _ in range(rng.randrange(1, 40))]
    return Row(sampling, 0, tokens, prompt=rng.randrange(len(tokens) + 1))


def test_many_rows_get_what_each_gets_from_the_slow_way():
    rng = random.Random(1)
    torch.manual_seed(1)
    for _ in range(30):
        rows = [any_row(rng) for _ in range(rng.randrange(1, 8))]
        scores = torch.randn(len(rows), VOCABULARY) * 4
        expected = torch.stack([slow(s, row) for s, row in zip(scores, rows, strict=True)])
        penalise(scores, rows)
        torch.testing.assert_close(scores, expected)


def test_repetition_is_transformers_own():
    torch.manual_seed(2)
    scores, tokens = torch.randn(1, VOCABULARY), [3, 3, 7, 49, 0]
    expected = RepetitionPenaltyLogitsProcessor(1.7)(torch.LongTensor([tokens]), scores.clone())
    penalise(scores, [Row(Sampling(repetition_penalty=1.7), 0, tokens, prompt=2)])
    assert torch.equal(scores, expected)


def test_only_the_output_counts_for_presence_and_frequency():
    scores = torch.zeros(1, 5)
    row = Row(Sampling(presence_penalty=1, frequency_penalty=0.5), 0, [1, 1, 2, 2, 3], prompt=3)
    penalise(scores, [row])
    assert scores.tolist() == [[0, 0, -1.5, -1.5, 0]]
    row.tokens = [1, 1, 2, 2, 2]
    penalise(scores.zero_(), [row])
    assert scores.tolist() == [[0, 0, -2, 0, 0]]


def test_it_knows_who_is_untouched():
    assert not penalised(Sampling(temperature=0.5, top_k=5))
    for name, value in {
        "repetition_penalty": 1.1,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "logit_bias": {3: 1},
    }.items():
        assert penalised(Sampling.parse({name: value}))
    scores = torch.randn(2, 5)
    expected = scores.clone()
    penalise(scores, [Row(Sampling(), 0, [1, 2], 1)] * 2)
    assert torch.equal(scores, expected)

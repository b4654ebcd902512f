"""The law of the draw, row by row: right odds, deaf to neighbours, errors that stay home."""

import math
import random
from collections import Counter

import pytest
import torch

from mindsd.errors import BrokenLogits, RequestError
from mindsd.sampling.draw import BLOCK, Row, _draw_any, draw
from mindsd.sampling.parameters import Sampling
from mindsd.sampling.uniform import uniform

GREEDY = Sampling(temperature=0)


def row(sampling=None, seed=0, tokens=(1, 2, 3), **more):
    return Row(sampling or Sampling(), seed, tokens, prompt=2, **more)


def tokens(logits, rows):
    drawn = draw(logits, rows)
    assert all(one.error is None for one in drawn)
    return [one.token for one in drawn]


def slow(logits, one):
    """The same law for one row, in plain Python."""
    said = one.sampling
    scores = dict(enumerate(logits.double().tolist()))
    for token, bias in dict(said.logit_bias).items():
        scores[token] += bias
    for token in set(one.tokens):
        factor = said.repetition_penalty
        scores[token] *= 1 / factor if scores[token] > 0 else factor
    for token, count in Counter(one.tokens[one.prompt :]).items():
        scores[token] -= said.presence_penalty + said.frequency_penalty * count
    allowed = range(len(scores)) if one.mask is None else one.mask.nonzero()[:, 0].tolist()
    scores = {t: scores[t] for t in allowed if t not in one.forbidden}
    order = sorted(scores, key=lambda t: (-scores[t], t))
    if said.temperature == 0:
        return order[0]
    peak = scores[order[0]]
    odds = {t: math.exp((scores[t] - peak) / said.temperature) for t in order}
    if not 0 < said.top_k < len(logits) and said.top_p == 1 and not said.min_p:
        order = sorted(odds)
    order = order[: said.top_k or None]
    whole, before, left = sum(odds[t] for t in order), 0.0, []
    for token in order:
        if (before < said.top_p * whole or said.top_p == 1) and odds[token] >= said.min_p:
            left.append(token)
        before += odds[token]
    target = uniform(one.seed, len(one.tokens)) * sum(odds[t] for t in left)
    for token in left:
        target -= odds[token]
        if target < 0:
            return token
    raise AssertionError("the odds ended before the share")


def any_row(rng, vocabulary):
    sampling = Sampling(
        temperature=rng.choice([0, 0.3, 1.0, 2.5]),
        top_k=rng.choice([0, 0, 1, 7, 70]),
        top_p=rng.choice([1.0, 1.0, 0.95, 0.4]),
        min_p=rng.choice([0.0, 0.0, 0.02, 0.5]),
        repetition_penalty=rng.choice([1.0, 1.2]),
        presence_penalty=rng.choice([0.0, 0.6]),
        frequency_penalty=rng.choice([0.0, -0.3]),
        logit_bias={rng.randrange(vocabulary): 2.0} if rng.random() < 0.3 else {},
        logprobs=rng.choice([None, None, 2]),
    )
    said = [rng.randrange(vocabulary) for _ in range(rng.randrange(1, 30))]
    mask = torch.rand(vocabulary, generator=torch.Generator().manual_seed(rng.randrange(99))) < 0.5
    return Row(
        sampling,
        seed=rng.randrange(2**64),
        tokens=said,
        prompt=rng.randrange(len(said)),
        mask=mask if rng.random() < 0.3 else None,
        forbidden=(rng.randrange(vocabulary),) if rng.random() < 0.3 else (),
    )


def test_a_mixed_batch_draws_what_the_slow_law_draws():
    rng = random.Random(7)
    torch.manual_seed(7)
    for vocabulary in (40, 700):
        for _ in range(10):
            rows = [any_row(rng, vocabulary) for _ in range(20)]
            logits = torch.randn(20, vocabulary) * 3
            before = logits.clone()
            assert tokens(logits, rows) == [slow(*pair) for pair in zip(logits, rows, strict=True)]
            assert torch.equal(logits, before)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_neighbours_do_not_matter(kind):
    rng = random.Random(8)
    torch.manual_seed(8)
    logits = (torch.randn(41, 1500) * 2).to(kind)
    rows = [any_row(rng, 1500) for _ in range(41)]
    alone = [draw(logits[at : at + 1], [rows[at]])[0] for at in range(41)]
    for _ in range(12):
        some = rng.sample(range(41), rng.randrange(2, 42))
        together = draw(logits[some], [rows[at] for at in some])
        assert [one.token for one in together] == [alone[at].token for at in some]
        assert [one.top for one in together] == [alone[at].top for at in some]


def odds_of(sampling, logits, draws=20_000):
    """How often each token came, over seeds and positions alike."""
    counts = torch.zeros(len(logits))
    many = [row(sampling, seed, range(at)) for seed in range(200) for at in range(draws // 200)]
    for start in range(0, draws, 2000):
        part = many[start : start + 2000]
        found = tokens(logits.expand(len(part), -1), part)
        counts += torch.bincount(torch.tensor(found), minlength=len(logits))
    return counts


@pytest.mark.parametrize(
    ("sampling", "left"),
    [
        (Sampling(), range(12)),
        (Sampling(temperature=0.5), range(12)),
        (Sampling(temperature=1.7, top_k=5), range(5)),
        (Sampling(top_p=0.8), range(4)),
        (Sampling(min_p=0.2), range(4)),
    ],
    ids=["plain", "cold", "top_k", "top_p", "min_p"],
)
def test_tokens_come_as_often_as_they_should(sampling, left):
    logits = torch.linspace(0, -5.5, 12)
    expected = torch.zeros(12)
    expected[list(left)] = (logits / sampling.temperature)[list(left)].softmax(0) * 20_000
    counts = odds_of(sampling, logits)
    inside = expected > 0
    assert counts[~inside].sum() == 0
    chi = ((counts - expected)[inside] ** 2 / expected[inside]).sum()
    assert chi < 37  # at most 11 degrees of freedom: a chance of 1e-4


def test_the_same_place_draws_the_same_number_again():
    logits = torch.zeros(3, 1000)
    drawn = tokens(logits, [row(seed=5), row(seed=5, tokens=(9, 9, 9)), row(seed=6)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == int(uniform(5, 3) * 1000)
    assert tokens(logits[:1], [row(seed=5, tokens=(1, 2, 3, 4))])[0] != drawn[0]


def test_greedy_takes_the_first_of_equal_ones_and_never_looks_at_limits():
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0]] * 2)
    assert tokens(logits, [row(GREEDY), row(Sampling(temperature=0, top_k=3, min_p=0.1))]) == [1, 1]


@pytest.mark.parametrize("cold", [1e-3, 1e-30, 1e-300])
def test_a_temperature_near_zero_is_greedy_without_overflow(cold):
    torch.manual_seed(9)
    logits = torch.randn(4, 500) * 100
    rows = [row(Sampling(temperature=cold, top_p=p), seed=7) for p in (1, 1, 0.9, 0.5)]
    assert tokens(logits, rows) == logits.argmax(-1).tolist()


@pytest.mark.parametrize("share", [0.0, 1 - 2.0**-53])
@pytest.mark.parametrize("limits", [{}, {"top_k": 4}, {"top_p": 0.9999}, {"min_p": 1e-6}], ids=str)
def test_the_ends_of_the_share_draw_possible_tokens(monkeypatch, share, limits):
    monkeypatch.setattr("mindsd.sampling.draw.uniform", lambda seed, position: share)
    torch.manual_seed(10)
    for vocabulary in (1, 2, 255, 256, 257, 3000):
        mask = torch.rand(vocabulary) < 0.2
        mask[vocabulary // 2] = True
        mask[[0, -1]] &= vocabulary < 3
        rows = [row(Sampling.parse(limits), mask=mask), row(Sampling.parse(limits))]
        first, second = tokens(torch.randn(2, vocabulary) * 5, rows)
        assert mask[first] and 0 <= second < vocabulary


def test_a_share_at_the_edge_of_a_block_never_draws_the_impossible():
    torch.manual_seed(0)
    probs = torch.randn(2000, 5 * BLOCK + 7).mul_(3).softmax(-1)
    for block in range(5):  # only the middle of each block is possible
        probs[:, block * BLOCK : block * BLOCK + 90] = 0
        probs[:, block * BLOCK + 170 : (block + 1) * BLOCK] = 0
    probs[:, -7:] = 0
    blocks = probs[:, : 5 * BLOCK].view(2000, 5, BLOCK).sum(-1, dtype=torch.float64).cumsum(-1)
    edges = blocks / blocks[:, -1:]
    for block in range(4):
        for toward in (0.0, 1.0):
            share = edges[:, block].nextafter(torch.tensor(toward, dtype=torch.float64))
            for own in (share, edges[:, block]):
                drawn = _draw_any(probs, own)
                assert (probs.gather(-1, drawn[:, None]) > 0).all()


def test_an_error_is_its_own_rows_and_the_others_go_on():
    torch.manual_seed(12)
    logits = torch.randn(7, 30)
    logits[1, 4] = math.nan
    logits[2] = -math.inf
    logits[3, 3] = math.inf
    none = torch.zeros(30, dtype=torch.bool)
    rows = [row(seed=at, sampling=Sampling(logprobs=1)) for at in range(7)]
    rows[4].mask = none
    rows[5].sampling = Sampling(logit_bias={30: 1})
    rows[1].mask = ~none
    rows[1].mask[4] = False  # a mask does not hide what is broken
    drawn = draw(logits, rows)
    kinds = [type(one.error) for one in drawn]
    nothing = type(None)
    assert kinds == [nothing, *[BrokenLogits] * 3, RequestError, RequestError, nothing]
    assert [one.token for one in drawn[1:6]] == [-1] * 5
    for at in (0, 6):
        assert drawn[at] == draw(logits[at : at + 1], [rows[at]])[0]
    assert "highest logit is nan" in str(drawn[1].error)
    assert "leave no token" in str(drawn[4].error)
    assert "token 30; the model has 30 tokens" in str(drawn[5].error)


def test_everything_forbidden_and_a_wrong_mask_are_errors_of_the_row():
    logits = torch.zeros(3, 3)
    rows = [
        row(GREEDY, forbidden=(0, 1, 2)),
        row(GREEDY, mask=torch.ones(4, dtype=torch.bool)),
        row(GREEDY, mask=torch.ones(3)),
    ]
    errors = [one.error for one in draw(logits, rows)]
    assert isinstance(errors[0], RequestError) and "leave no token" in str(errors[0])
    assert str(errors[1]) == "a mask is bool [3], got torch.bool [4]"
    assert str(errors[2]) == "a mask is bool [3], got torch.float32 [3]"


def test_forbidden_tokens_do_not_come_and_unknown_ones_do_not_matter():
    logits = torch.tensor([[5.0, 4.0, 3.0]] * 2)
    rows = [row(GREEDY, forbidden=(0, 7, -1)), row(GREEDY, forbidden=(1, 0))]
    assert tokens(logits, rows) == [1, 2]


def test_logprobs_are_the_models_own_whatever_the_parameters():
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    said = Sampling(temperature=0, logit_bias={2: 50}, logprobs=2, repetition_penalty=2)
    [drawn] = draw(logits, [row(said)])
    own = logits.log_softmax(-1)[0].tolist()
    assert drawn.token == 2 and drawn.logprob == pytest.approx(own[2])
    assert drawn.top == ((0, pytest.approx(own[0])), (1, pytest.approx(own[1])))


def test_no_rows_and_rows_that_do_not_fit():
    assert draw(torch.empty(0, 5), []) == []
    with pytest.raises(ValueError, match=r"2 rows need logits \[R, V\], got \[1, 5\]"):
        draw(torch.zeros(1, 5), [row(), row()])

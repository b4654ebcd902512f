"""A draft model: guesses as its target draws, and its own cache is never lost or poisoned."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mindsd.batching.runner import Ask, TokenRunner
from mindsd.batching.sequence import Sequence
from mindsd.batching.tokens import Budget
from mindsd.errors import RequestError
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.prefix import root
from mindsd.kvcache.step import present_step
from mindsd.kvcache.table import BlockTable, Lane
from mindsd.sampling.draw import draw
from mindsd.sampling.drawing import Drawing
from mindsd.sampling.parameters import Sampling
from mindsd.speculative.draft_model import DraftModel

SIZE, WORDS = 4, 12


class Toy:
    """A model whose logits come from the last `sees` tokens that the cache holds."""

    def __init__(self, sees: int, window: int | None = None, blocks: int = 64, words: int = WORDS):
        self.lanes = [Lane(BlockPool(blocks, SIZE), window)]
        self.sees, self.words, self.fails = sees, words, False
        self.pages = PageStore([blocks], SIZE, [0], "auto")
        self.runner = TokenRunner(self.forward, draw, self.pages, self.lanes, Budget(16))

    def forward(self, ids: torch.Tensor, positions: torch.Tensor, index: torch.Tensor) -> Any:
        if self.fails:
            raise ValueError("it broke")
        step = present_step()
        assert step is not None
        new = ids[0, :, None, None].double()
        keys, _ = self.pages.of(0, 0, new, new)
        keys.write(step.slots[0], new)
        rows = []
        for segment in step.segments:
            for place in range(segment.past, segment.total):
                seen = []
                for at in range(max(0, place - self.sees + 1), place + 1):
                    block = segment.blocks[0][at // SIZE]
                    assert block >= 0, "a block that is still seen was given back"
                    seen.append(int(keys.data[0, block, at % SIZE, 0]))
                rows.append(self.logits(seen))
        return torch.stack(rows)[index]

    def logits(self, seen: list[int]) -> torch.Tensor:
        """Of the first 12 words the same, whatever the number of words."""
        seed = sum((token + 1) * 31**place for place, token in enumerate(reversed(seen)))
        own = torch.randn(WORDS, generator=torch.Generator().manual_seed(seed % 2**31)) * 2
        return torch.nn.functional.pad(own, (0, max(0, self.words - WORDS)))[: self.words]


def sequence(toy: Toy, prompt: list[int], seed: int = 1, most: int = 30, **options) -> Sequence:
    draws = Drawing(Sampling(max_tokens=most, **options), seed, len(prompt))
    return Sequence(list(prompt), len(prompt), BlockTable(toy.lanes, root()), draws)


def finish(toy: Toy, sequences: list[Sequence], most: int = 30) -> list[list[int]]:
    """What each says, until it has `most` tokens; then it is released."""
    going = list(sequences)
    while going:
        outcomes = toy.runner.run([Ask(toy.runner, (own,)) for own in going])
        assert all(outcome is None or outcome.error is None for outcome in outcomes)
        for own in [own for own in going if len(own.tokens) - own.prompt >= most]:
            assert len(own.tokens) - own.prompt == most, "it drew beyond its end"
            own.release()
            going.remove(own)
    return [list(own.tokens[own.prompt :]) for own in sequences]


def at_rest(toy: Toy, draft: DraftModel) -> None:
    draft.propose([])
    for lane in [*toy.lanes, *draft._runner.lanes]:
        lane.pool.check()
        assert lane.pool.counts[1] == 0


PROMPTS = [
    [1, 2, 3, 4, 5],
    [6],
    [7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7],
    [2] * 9,
]
WAYS = [{"temperature": 0}, {"temperature": 1.0}, {"top_p": 0.7, "presence_penalty": 0.5}]


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("window", [None, 3, 6])
@pytest.mark.parametrize("blocks", [64, 17])
@pytest.mark.parametrize("sees", [1, 3])
def test_the_text_is_the_same_with_and_without(options, window, blocks, sees):
    toy = Toy(3, window)
    plain = finish(toy, [sequence(toy, p, n, **options) for n, p in enumerate(PROMPTS)])
    toy = Toy(3, window)
    draft = DraftModel(Toy(sees, window, blocks).runner, WORDS)
    toy.runner.proposer = draft
    assert finish(toy, [sequence(toy, p, n, **options) for n, p in enumerate(PROMPTS)]) == plain
    counts = toy.runner.counts
    if sees == 3:
        assert counts.accepted == counts.drafted > (60 if blocks == 64 else 0)
    at_rest(toy, draft)


@pytest.mark.parametrize("words", [WORDS, WORDS + 5, WORDS - 2])
def test_it_may_be_padded_otherwise(words):
    toy = Toy(2)
    plain = finish(toy, [sequence(toy, p, 3, temperature=0) for p in PROMPTS])
    toy = Toy(2)
    toy.runner.proposer = DraftModel(Toy(2, words=words).runner, WORDS)
    assert finish(toy, [sequence(toy, p, 3, temperature=0) for p in PROMPTS]) == plain
    assert toy.runner.counts.accepted > 10


def test_a_draft_that_is_always_wrong_is_soon_left_alone():
    toy, own = Toy(2, blocks=128), Toy(1, blocks=128)
    own.logits = lambda seen: -100 * torch.nn.functional.one_hot(torch.tensor(0), WORDS).float()
    toy.logits = lambda seen: torch.nn.functional.one_hot(torch.tensor(0), WORDS).float()
    toy.runner.proposer = draft = DraftModel(own.runner, WORDS)
    finish(toy, [sequence(toy, [1, 2, 3], most=400, temperature=0)], most=400)
    assert toy.runner.counts.accepted == 0 and toy.runner.counts.drafted < 10
    assert draft.counts.forwards < 40


def test_a_draft_model_that_fails_harms_nobody():
    toy = Toy(2)
    plain = finish(toy, [sequence(toy, p, 3) for p in PROMPTS])
    toy, own = Toy(2), Toy(2)
    own.fails = True
    toy.runner.proposer = draft = DraftModel(own.runner, WORDS)
    assert finish(toy, [sequence(toy, p, 3) for p in PROMPTS]) == plain
    assert toy.runner.counts.drafted == 0
    at_rest(toy, draft)


def test_few_blocks_of_the_target_are_enough_with_drafts_too():
    toy = Toy(2, blocks=14)
    plain = finish(toy, [sequence(toy, p, 3) for p in PROMPTS])
    preempted = toy.runner.counts.preempted
    toy = Toy(2, blocks=14)
    toy.runner.proposer = draft = DraftModel(Toy(2).runner, WORDS)
    assert finish(toy, [sequence(toy, p, 3) for p in PROMPTS]) == plain
    assert preempted > 0 and toy.runner.counts.accepted > 0
    at_rest(toy, draft)


def test_a_cancelled_sequence_gives_its_blocks_back():
    toy = Toy(2)
    toy.runner.proposer = draft = DraftModel(Toy(2).runner, WORDS)
    own = [sequence(toy, prompt) for prompt in PROMPTS]
    for _ in range(5):
        toy.runner.run([Ask(toy.runner, (one,)) for one in own])
    assert draft._runner.lanes[0].pool.counts[1] > 0
    own[1].release()
    finish(toy, [own[0], *own[2:]])
    at_rest(toy, draft)


def test_a_long_prompt_is_caught_up_with_over_several_turns():
    toy = Toy(2)
    toy.runner.proposer = draft = DraftModel(Toy(2).runner, WORDS, length=2)
    own = sequence(toy, [3] * 100)
    before = 0
    while len(own.tokens) < 110:
        toy.runner.run([Ask(toy.runner, (own,))])
        assert draft.counts.forwards - before <= 2
        before = draft.counts.forwards
    assert toy.runner.counts.accepted > 0


def test_it_reads_no_further_than_its_context():
    toy, own = Toy(2), Toy(2)
    draft = DraftModel(own.runner, WORDS, context=16)
    toy.runner.proposer = draft
    seen = []
    forward = own.runner.forward
    draft._runner.forward = lambda ids, places, index: (
        seen.append(int(places.max())) or forward(ids, places, index)
    )
    finish(toy, [sequence(toy, [1, 2, 3])])
    assert 10 < max(seen) < 16


def test_options_out_of_range_are_refused():
    with pytest.raises(RequestError, match="at least one token"):
        DraftModel(Toy(1).runner, WORDS, length=0)

"""The runner: what fails is one sequence's, whatever it is, and the others go on as they were."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mindsd.batching.runner import Ask, TokenRunner
from mindsd.batching.sequence import Sequence
from mindsd.batching.tokens import Budget
from mindsd.errors import OutOfMemory
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.prefix import root
from mindsd.kvcache.step import present_step
from mindsd.kvcache.table import BlockTable, Lane

SIZE, WORDS = 4, 50


class Draws:
    """The next token is one more than the last; some of its methods may be made to fail."""

    def __init__(self, **broken: Exception):
        self.broken = broken

    def rows(self, tokens: list[int], draft: list[int]) -> list[Any]:
        if "rows" in self.broken:
            raise self.broken["rows"]
        return [[*tokens, *draft[:count]] for count in range(len(draft) + 1)]

    def took(self, tokens: list[int]) -> int:
        if "took" in self.broken:
            raise self.broken["took"]
        return len(tokens)


def forward(ids: torch.Tensor, positions: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    step = present_step()
    assert step is not None
    written = ids[0, :, None, None].float()
    keys, values = step.pages.of(0, step.next_call(0), written, written)
    for page in (keys, values):
        page.write(step.slots[0], written)
    return ids[0, index, None].expand(-1, WORDS).float()


def draw(logits: torch.Tensor, rows: list[list[int]]) -> list[Any]:
    assert len(logits) == len(rows) and logits[:, 0].tolist() == [row[-1] for row in rows]
    return [SimpleNamespace(token=row[-1] + 1, error=None) for row in rows]


def made(blocks: int = 16, **more: Any) -> TokenRunner:
    lanes = [Lane(BlockPool(blocks, SIZE))]
    given: dict[str, Any] = {"forward": forward, "draw": draw, **more}
    return TokenRunner(pages=PageStore([blocks], SIZE, [0], "auto"), lanes=lanes, **given)


def sequence(runner: TokenRunner, tokens: list[int], draws: Any = None) -> Sequence:
    return Sequence(
        list(tokens), len(tokens), BlockTable(runner.lanes, root()), draws=draws or Draws()
    )


def turn(runner: TokenRunner, *sequences: Sequence) -> list[Any]:
    """The outcome of each, as if each were a request's only one."""
    return runner.run([Ask(runner, (own,)) for own in sequences])


def keys_of(runner: TokenRunner, own: Sequence) -> list[float]:
    """What is written of a sequence's tokens."""
    keys, _ = runner.pages.of(0, 0, torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    flat = keys.data.flatten(1, 2)[0, :, 0]
    places = [own.table.blocks[0][i // SIZE] * SIZE + i % SIZE for i in range(own.computed)]
    return flat[torch.tensor(places)].tolist()


def test_tokens_come_and_drafts_are_verified():
    runner = made()
    own = sequence(runner, [1, 2, 3])
    [outcome] = turn(runner, own)
    assert [one.token for _, drawn in outcome.value for one in drawn] == [4]
    own.draft = [5, 6, 9, 10]
    [outcome] = turn(runner, own)
    assert own.tokens == [1, 2, 3, 4, 5, 6, 7] and own.computed == 6
    assert (runner.counts.drafted, runner.counts.accepted) == (4, 2)
    assert keys_of(runner, own) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("method", ["rows", "took"])
def test_an_error_is_one_sequences_and_the_others_are_as_they_would_have_been(method):
    runner = made()
    first, culprit, last = (
        sequence(runner, [10 * i, 10 * i + 1], Draws(**({method: KeyError("x")} if i == 2 else {})))
        for i in (1, 2, 3)
    )
    outcomes = turn(runner, first, culprit, last)
    assert isinstance(outcomes[1].error, KeyError)
    assert first.tokens == [10, 11, 12] and last.tokens == [30, 31, 32]
    assert runner.counts.forwards == 1
    for own in (first, last):
        assert own.computed == 2 and keys_of(runner, own) == own.tokens[:2]


def test_a_model_that_fails_for_one_fails_for_it_alone():
    def picky(ids: torch.Tensor, *more: Any) -> torch.Tensor:
        if (ids == 20).any():
            raise ValueError("not 20")
        return forward(ids, *more)

    runner = made(forward=picky)
    first, culprit = sequence(runner, [10, 11]), sequence(runner, [20, 21])
    outcomes = turn(runner, first, culprit)
    assert outcomes[0].error is None and first.tokens == [10, 11, 12]
    assert isinstance(outcomes[1].error, ValueError)


def test_memory_that_runs_out_makes_forwards_smaller_for_a_while():
    def small(ids: torch.Tensor, *more: Any) -> torch.Tensor:
        if ids.shape[1] > 5:
            raise torch.OutOfMemoryError
        return forward(ids, *more)

    runner = made(forward=small)
    own = sequence(runner, list(range(1, 13)))
    for _ in range(10):
        if turn(runner, own)[0] is not None:
            break
    assert own.tokens[-1] == 13 and keys_of(runner, own) == own.tokens[:12]
    for _ in range(64):
        runner._cap.went_well()
    assert runner._cap.of(Budget(100)).tokens > 5


def test_memory_that_does_not_suffice_for_one_token_is_said():
    def never(*given: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError

    runner = made(forward=never)
    own = sequence(runner, [1, 2, 3, 4])
    outcomes = [turn(runner, own)[0] for _ in range(4)]
    assert isinstance(outcomes[-1].error, OutOfMemory)


def test_copies_are_made_though_nothing_is_left_to_compute():
    runner = made()
    turn(runner, sequence(runner, [1, 2, 3, 4, 5]))
    again = sequence(runner, [1, 2, 3, 4])
    again.draws = None
    [outcome] = turn(runner, again)
    assert outcome.value == [(again, [])] and again.reused == 3
    assert keys_of(runner, again) == [1, 2, 3]


def test_copies_that_fail_are_the_error_of_whom_they_are_for(monkeypatch):
    runner = made()
    turn(runner, sequence(runner, [1, 2, 3, 4, 5]))
    hurt, other = sequence(runner, [1, 2, 3, 9]), sequence(runner, [30, 31])

    def fail(copies: list[Any]) -> None:
        if copies:
            raise MemoryError("no room")

    monkeypatch.setattr(runner.pages, "copy", fail)
    outcomes = turn(runner, hurt, other)
    assert isinstance(outcomes[0].error, MemoryError) and other.tokens == [30, 31, 32]


def test_a_proposer_that_fails_is_not_asked_again():
    class Broken:
        def propose(self, sequences: Any) -> None:
            sequences[0].draft = [1]
            raise KeyError("broken")

    runner = made(proposer=Broken())
    own = sequence(runner, [1, 2])
    turn(runner, own)
    with pytest.warns(RuntimeWarning, match="speculation ended"):
        turn(runner, own)
    assert own.tokens == [1, 2, 3, 4] and runner.proposer is None


def test_what_lay_in_a_block_before_does_not_stay_in_it():
    runner = made(blocks=2)
    turn(runner, own := sequence(runner, [1, 2, 3]))
    keys, _ = runner.pages.of(0, 0, torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    keys.data.fill_(torch.nan)
    own.release()
    turn(runner, other := sequence(runner, [5, 6]))
    block = other.table.blocks[0][0]
    assert keys.data[0, block, :, 0].tolist() == [5, 6, 0, 0]

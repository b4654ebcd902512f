"""The runner: what fails is one sequence's, whatever it is, and the others go on as they were."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mindsd.batching.placeholders import Placeholders
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
IMAGE = 9  # the token that stands for images


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


def shown(runner: TokenRunner, tokens: list[int], seed: float = 0, **more: Any) -> Sequence:
    """With an image at every `IMAGE`, whose features are the seed, the seed + 1, ..."""
    own = sequence(runner, tokens)
    places = [place for place, token in enumerate(tokens) if token == IMAGE]
    features = (seed + torch.arange(float(len(places)))[:, None],)
    own.images = Placeholders(places, features, [-id - 1 for id in tokens], **more)
    return own


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


class Seeing:
    """A forward that keeps what it was given; memory runs out above so many tokens."""

    def __init__(self, most: int = 1000):
        self.most = most
        self.tokens: list[int] = []
        self.positions: list[torch.Tensor] = []
        self.features: list[list[float] | None] = []

    def __call__(self, ids: torch.Tensor, positions: torch.Tensor, index: Any, **more: Any) -> Any:
        self.tokens.append(ids.shape[1])
        self.positions.append(positions)
        seen = more.get("features")
        self.features.append(None if seen is None else seen[0].flatten().tolist())
        number = int((ids == IMAGE).sum())
        assert (number == 0) == (seen is None) and (seen is None or len(seen[0]) == number)
        if ids.shape[1] > self.most:
            raise torch.OutOfMemoryError
        return forward(ids, positions, index)


def test_features_reach_the_forward_in_the_order_of_its_tokens():
    seeing = Seeing()
    runner = made(forward=seeing, image_token=IMAGE, budget=Budget(12))
    first = shown(runner, [1, 9, 9, 9, 2], 100)
    text = sequence(runner, [4, 5, 6])
    second = shown(runner, [3, 9, 9, 4, 9, 9, 5, 6], 200)
    for _ in range(3):
        turn(runner, second, text, first)
    assert sorted(sum((own or [] for own in seeing.features), [])) == [
        *(100, 101, 102),
        *(200, 201, 202, 203),
    ]
    assert seeing.features[0] == [100, 101, 102, 200, 201][: len(seeing.features[0] or [])]
    assert seeing.features[-1] is None  # all decode
    assert first.tokens[5] == 3 and text.tokens[3] == 7 and second.tokens[8] == 7


@pytest.mark.parametrize("budget", [1, 2, 5, 64])
def test_every_image_token_is_given_its_own_feature_once(budget):
    seeing = Seeing()
    runner = made(forward=seeing, image_token=IMAGE, budget=Budget(budget))
    # Their first tokens differ: they share nothing.
    owns = [shown(runner, [i, 9, 9, 9, 2, 9, 3], 100 * i, whole=((1, 4),)) for i in (1, 2)]
    for _ in range(20):
        turn(runner, *(own for own in owns if len(own.tokens) < 9))
    found = sum((own or [] for own in seeing.features), [])
    assert sorted(found) == [100, 101, 102, 103, 200, 201, 202, 203]
    assert [value for value in found if value < 200] == [100, 101, 102, 103]


def test_positions_of_four_axes():
    seeing = Seeing()
    runner = made(forward=seeing, image_token=IMAGE, axes=4)
    rotary = torch.tensor([[0, 1, 1, 1, 3], [0, 1, 1, 1, 3], [0, 1, 2, 3, 3]])
    own = shown(runner, [1, 9, 9, 9, 2], rotary=rotary, delta=-1)
    text = sequence(runner, [5, 6])
    turn(runner, own, text)
    assert seeing.positions[0].shape == (4, 1, 7)
    assert seeing.positions[0][:, 0].tolist() == [
        [0, 1, 2, 3, 4, 0, 1],
        [0, 1, 1, 1, 3, 0, 1],
        [0, 1, 1, 1, 3, 0, 1],
        [0, 1, 2, 3, 3, 0, 1],
    ]
    turn(runner, own, text)
    assert seeing.positions[1][:, 0].tolist() == [[5, 2], [4, 2], [4, 2], [4, 2]]


def test_an_image_token_is_never_drawn():
    given = []

    def watch(logits: torch.Tensor, rows: list[list[int]]) -> list[Any]:
        given.append(logits)
        return draw(logits, rows)

    runner = made(image_token=IMAGE, draw=watch)
    turn(runner, sequence(runner, [8]))
    assert given[0][0, IMAGE] == -torch.inf
    assert torch.isfinite(given[0]).sum() == WORDS - 1
    runner = made(draw=watch)  # a model of text alone may say all of its tokens
    turn(runner, sequence(runner, [8]))
    assert torch.isfinite(given[1]).all()


@pytest.mark.parametrize(("draft", "left"), [([4, 5, 9, 6], 2), ([9, 4], 0), ([4, 5], 2)])
def test_a_draft_ends_before_an_image_token(draft, left):
    class Guess:
        def propose(self, sequences: Any) -> None:
            for own in sequences:
                own.draft = list(draft)

    seeing = Seeing()
    runner = made(forward=seeing, image_token=IMAGE, proposer=Guess())
    own = sequence(runner, [1, 2])
    turn(runner, own)
    turn(runner, own)
    assert seeing.tokens == [2, 1 + left] and runner.counts.drafted == left
    assert own.tokens == [1, 2, 3, 4, 5, 6][: len(own.tokens)]


def until_all_ended(runner: TokenRunner, *sequences: Sequence) -> dict[Sequence, Exception]:
    """At most 200 turns, until each has ten tokens more, or an error."""
    failed: dict[Sequence, Exception] = {}
    for _ in range(200):
        live = [own for own in sequences if own not in failed and len(own.tokens) < own.prompt + 10]
        if not live:
            return failed
        for own, outcome in zip(live, turn(runner, *live), strict=True):
            if outcome is not None and outcome.error is not None:
                failed[own] = outcome.error
                own.release()
    raise AssertionError("a sequence went on for ever")


def test_memory_that_runs_out_with_an_image_that_is_whole_is_its_error():
    runner = made(forward=Seeing(most=6), image_token=IMAGE)
    own = shown(runner, [1, *[9] * 8, 2], whole=((1, 9),))
    failed = until_all_ended(runner, own)
    assert isinstance(failed[own], OutOfMemory) and "8 tokens" in str(failed[own])


@pytest.mark.parametrize("order", [1, -1])
def test_memory_that_runs_out_with_an_image_beside_others_is_the_error_of_the_image(order):
    """Half of such a forward is still the image: smaller budgets alone would never end it."""
    runner = made(blocks=64, forward=Seeing(most=6), image_token=IMAGE)
    texts = [sequence(runner, [20 + i, 30 + i]) for i in range(2)]
    image = shown(runner, [1, *[9] * 8, 15], whole=((1, 9),))
    image.number *= order  # the youngest, then the oldest of all
    failed = until_all_ended(runner, *texts, image)
    assert set(failed) == {image} and isinstance(failed[image], OutOfMemory)
    assert [own.tokens[-1] for own in texts] == [40, 41]


@pytest.mark.parametrize("order", [1, -1])
def test_an_image_that_fits_alone_goes_alone(order):
    runner = made(blocks=64, forward=Seeing(most=9), image_token=IMAGE)
    texts = [sequence(runner, [20 + i, 30 + i]) for i in range(3)]
    image = shown(runner, [1, *[9] * 8, 15], whole=((1, 9),))
    image.number *= order
    assert until_all_ended(runner, *texts, image) == {}
    assert image.tokens[-1] == 25 and keys_of(runner, image)[:9] == [1, *[9] * 8]


def test_memory_that_ran_out_never_makes_forwards_larger():
    """An image may be far over a budget that is small already."""
    runner = made(blocks=64, forward=Seeing(most=3), image_token=IMAGE, budget=Budget(64))
    runner._cap.failed(4)
    runner._cap.failed(40)
    assert runner._cap.of(runner.budget).tokens == 2

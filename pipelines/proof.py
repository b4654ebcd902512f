"""Proves that a language model may run packed: its logits packed are those it gives alone.

Packed, a model that mixes the tokens of a row other than by attention (recurrent layers,
convolutions) is wrong and raises nothing. So every model first computes some short sequences both
ways: packed, with chunks of prompts beside single tokens, and each alone without a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mindsd.batching.coroutine import Outcome
from mindsd.batching.placeholders import Placeholders
from mindsd.batching.runner import Ask, TokenRunner
from mindsd.batching.sequence import Sequence as Tokens
from mindsd.batching.tokens import Budget
from mindsd.device import is_out_of_memory
from mindsd.errors import MindsdError, ModelError
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.prefix import root
from mindsd.kvcache.step import Segment, present_step
from mindsd.kvcache.table import BlockTable, Lane
from mindsd.pipelines.cache_options import BLOCKS

LENGTHS = (13, 7, 18)  # tokens of the texts that are compared
PICTURES = 4  # times the difference of texts that prompts with pictures may have
BLOCK, BUDGET = 4, 14  # tokens: blocks are divided, and prompts are computed in pieces
# Largest difference to the model's own logits, relative to their largest value.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}

Forward = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Sample:
    """A sequence that is computed both ways.

    Attributes:
        ids: its tokens.
        logits: [T, V] float32, the model's own.
        images: of its prompt.
    """

    ids: list[int]
    logits: Tensor
    images: Placeholders | None = None


@torch.inference_mode()
def texts_alone(model: Any, device: torch.device) -> list[Sample]:
    """Random texts and the model's own logits of them."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    forbidden = getattr(model.config, "image_token_id", None)
    samples = []
    for length in LENGTHS:
        ids = torch.randint(0, vocabulary, (length,), generator=generator)
        ids[ids == forbidden] = 1 if forbidden == 0 else 0
        logits = model(input_ids=ids[None].to(device), use_cache=False).logits[0].float()
        samples.append(Sample(ids.tolist(), logits))
    return samples


@torch.inference_mode()
def prove(
    name: str,
    samples: Sequence[Sample],
    forward: Forward,
    lanes: Callable[[int, int], tuple[list[Lane], list[int]]],
    runs: Mapping[str, Any],
    tolerance: float,
    size: int | None = None,
    budget: int = BUDGET,
) -> dict[str, int]:
    """Compute all samples packed, and compare.

    Args:
        name: of the model.
        forward: as of a `TokenRunner`.
        lanes: makes so many blocks of such a size: the lanes, and the lane of each layer.
        runs: further fields of the `TokenRunner`.
        tolerance: by how much of the largest logit they may differ.
        size: tokens of a block; None for few.
        budget: tokens of a forward.

    Returns:
        bytes that a token takes in the cache, by the cache's dtype.

    Raises:
        ModelError: they differ.
    """
    longest = max(len(sample.ids) for sample in samples)
    on_npu = "device" in runs and runs["device"].type == "npu"
    size = BLOCKS["npu"] if on_npu else size or BLOCK  # its operators for pages take no others
    own, lane_of = lanes(len(samples) * -(-longest // size), size)
    pages = PageStore([lane.pool.total for lane in own], size, lane_of, "auto")
    recorder = Recorder(forward)
    runner = TokenRunner(recorder, _none, pages, own, budget=Budget(budget), **runs)
    sequences = [
        Tokens(sample.ids, len(sample.ids), BlockTable(own, root(f"{i}")), images=sample.images)
        for i, sample in enumerate(samples)  # none finds its first tokens with another
    ]
    _run(runner, sequences)
    rounding = 0.0  # what texts differ by; pictures that are read in the wrong order by far more
    for sample, sequence in zip(samples, sequences, strict=True):
        limit = tolerance
        if sample.images is not None:
            limit = min(tolerance, max(PICTURES * rounding, tolerance / 10))
        wrong = _compare(name, sample, recorder.logits(sequence), limit)
        rounding = max(rounding, wrong)
    return pages.token_bytes()


class Recorder:
    """A forward that keeps the logits of all its tokens."""

    def __init__(self, forward: Forward):
        self._forward = forward
        self._found: list[tuple[Segment, Tensor]] = []

    def __call__(self, ids: Tensor, positions: Tensor, index: Tensor, **more: Any) -> Tensor:
        every = torch.arange(ids.shape[1], device=ids.device)
        logits = self._forward(ids, positions, every, **more).float()
        step = present_step()
        assert step is not None
        self._found += [(own, logits[own.start : own.stop]) for own in step.segments]
        return logits[index]

    def logits(self, sequence: Tokens) -> Tensor:
        """[T - 1, V] of a sequence, in the order of its tokens."""
        blocks = sequence.table.blocks
        own = [(part.past, found) for part, found in self._found if part.blocks is blocks]
        return torch.cat([found for _, found in sorted(own, key=lambda part: part[0])])


def _run(runner: TokenRunner, sequences: Sequence[Tokens]) -> None:
    """Until all tokens but the last are computed, which nothing is drawn from."""
    waiting = list(sequences)
    while waiting:
        outcomes: Sequence[Outcome | None] = runner.run([Ask(runner, (own,)) for own in waiting])
        for outcome in outcomes:
            if outcome is not None and outcome.error is not None:
                raise outcome.error
        waiting = [own for own, done in zip(waiting, outcomes, strict=True) if done is None]


def _compare(name: str, sample: Sample, packed: Tensor, tolerance: float) -> float:
    """By how much of its largest logit a sample differs."""
    alone = sample.logits[: len(packed)]
    largest = float(alone.abs().max())
    wrong = float((packed - alone).abs().max())
    share = wrong / max(1.0, largest)
    if not share <= tolerance:
        what = "texts" if sample.images is None else "prompts with images"
        raise ModelError(
            f"{name} computes other logits of {what} packed than alone (off by {wrong:.2g} of "
            f"{largest:.2g})"
        )
    return share


def _none(logits: Tensor, rows: Sequence[Any]) -> Sequence[Any]:
    """Nothing is drawn."""
    assert not rows
    return []


def explained(name: str, error: BaseException) -> BaseException:
    """Why a model does not run packed, as a ModelError."""
    if (
        not isinstance(error, Exception)
        or isinstance(error, MindsdError)
        or is_out_of_memory(error)
    ):
        return error
    reason = f"{type(error).__name__}: {error}".split("\n")[0]
    return ModelError(f"{name} does not run packed ({reason})")

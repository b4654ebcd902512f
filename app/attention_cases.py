"""Typical attention calls, and who answers each on this machine: the table of `mindsd doctor`.

Imports torch; the commands import this file when they run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mindsd.attention.contract import Call, Varlen
from mindsd.attention.registry import Registry, default_registry
from mindsd.device import find_device

HEADS, TOKENS, WORDS, WIDTH = (
    8,
    64,
    16,
    64,
)  # refusals depend on the kind of call, not on its length

Maker = Callable[[Callable[..., Tensor]], Call]


@dataclass(frozen=True)
class Answer:
    """Who takes a call, and why each other backend does not.

    Attributes:
        backend: the chosen backend's name; None when all refuse.
        refused: backend -> reason, of those asked before it.
        unasked: those that stand behind the chosen one and would take the call too.
    """

    case: str
    device: str
    dtype: str
    backend: str | None
    refused: dict[str, str]
    unasked: list[str]


def _cases() -> dict[str, Maker]:
    image, words = (2, HEADS, TOKENS, WIDTH), (2, HEADS, WORDS, WIDTH)
    few = (2, HEADS // 4, TOKENS, WIDTH)
    packed = (1, HEADS, TOKENS, WIDTH)
    halves = Varlen((0, TOKENS // 2, TOKENS), (0, TOKENS // 2, TOKENS))

    def padding(new: Callable[..., Tensor]) -> Tensor:
        return (new(2, 1, 1, WORDS) * 0 + torch.arange(WORDS, device=new(1).device)) < WORDS // 2

    return {
        "image to itself": lambda new: Call(new(*image), new(*image), new(*image)),
        "image to words": lambda new: Call(new(*image), new(*words), new(*words)),
        "image to padded words": lambda new: Call(
            new(*image), new(*words), new(*words), mask=padding(new)
        ),
        "additive bias": lambda new: Call(
            new(*image), new(*image), new(*image), mask=new(1, HEADS, TOKENS, TOKENS)
        ),
        "causal text": lambda new: Call(new(*words), new(*words), new(*words), causal=True),
        "sliding window": lambda new: Call(
            new(*image), new(*image), new(*image), causal=True, window=(WORDS, 0)
        ),
        "grouped heads": lambda new: Call(new(*image), new(*few), new(*few), causal=True),
        "packed sequences": lambda new: Call(
            new(*packed), new(*packed), new(*packed), varlen=halves
        ),
    }


def explain(kinds: Sequence[str], registry: Registry | None = None) -> list[Answer]:
    """Every case on every kind of device, in the dtype that is fast there."""
    asked = registry or default_registry()
    return [_answer(asked, case, maker, kind) for kind in kinds for case, maker in _cases().items()]


def _answer(registry: Registry, case: str, maker: Maker, kind: str) -> Answer:
    device = find_device(kind)

    def new(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=device.dtype, device=device.torch)

    reasons = registry.explain(maker(new))
    takers = [name for name, reason in reasons if reason is None]
    refused = {name: reason for name, reason in reasons if reason is not None}
    dtype = str(device.dtype).removeprefix("torch.")
    return Answer(case, kind, dtype, takers[0] if takers else None, refused, takers[1:])

"""How much an engine takes on at once."""

from __future__ import annotations

from dataclasses import dataclass

from mindsd.errors import RequestError


@dataclass(frozen=True)
class Limits:
    """How much the engine takes on.

    Attributes:
        rows: rows in one forward, and rows of all live requests together.
        queue: requests that may wait; one more is refused with `QueueFull`.
        memory: bytes of activations of all live requests; None for no bound.
        texts: live requests for text, whose tokens and cache have budgets of their own.
    """

    rows: int = 32
    queue: int = 1024
    memory: int | None = None
    texts: int = 1024

    def __post_init__(self) -> None:
        least = min(self.rows, self.queue, self.texts, 1 if self.memory is None else self.memory)
        if least < 1:
            raise RequestError(f"rows, queue, memory and texts must be at least 1, got {self}")

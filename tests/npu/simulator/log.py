"""What a simulated NPU was asked: its operators, its plain kernels, and where the host waited."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor


class Like(NamedTuple):
    """A tensor as the log keeps it."""

    shape: tuple[int, ...]
    dtype: Any


@dataclass(frozen=True)
class Called:
    """One call of a fused operator that passed its checks.

    Attributes:
        op: the operator's name, as "npu_fusion_attention".
        arguments: every argument that is not None, defaults included; tensors as `Like`.
    """

    op: str
    arguments: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)


@dataclass
class Log:
    """Filled while a simulation runs; tests assert on it.

    Attributes:
        calls: fused operators in order.
        kernels: how often each plain aten kernel ran on the device (tier 1 only).
        host_syncs: by cause, how often the host had to wait for the device: a value that was read
            (`item`), a copy to the host, a result whose shape depends on values (`nonzero`), a
            device tensor given where an operator takes host integers.
    """

    calls: list[Called] = field(default_factory=list)
    kernels: Counter[str] = field(default_factory=Counter)
    host_syncs: Counter[str] = field(default_factory=Counter)

    def add(self, op: str, arguments: dict[str, Any]) -> None:
        kept = {name: _like(value) for name, value in arguments.items() if value is not None}
        self.calls.append(Called(op, kept))

    def ops(self) -> list[str]:
        """The names of the fused operators, in order."""
        return [call.op for call in self.calls]

    def clear(self) -> None:
        self.calls.clear()
        self.kernels.clear()
        self.host_syncs.clear()


def _like(value: Any) -> Any:
    return Like(tuple(value.shape), value.dtype) if isinstance(value, Tensor) else value

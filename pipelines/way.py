"""One way of drawing that is measured: an acceleration, or plain with fewer steps."""

from __future__ import annotations

from dataclasses import dataclass

from mindsd.config import PLAIN, SPEEDS, Acceleration


@dataclass(frozen=True)
class Way:
    """How images are drawn; `steps` None is as many as everything else is compared at."""

    acceleration: Acceleration = PLAIN
    steps: int | None = None

    @property
    def is_plain(self) -> bool:
        return self.acceleration.is_plain and self.steps is None

    def __str__(self) -> str:
        """In the words of `mindsd generate`: its flags, or plain."""
        named = (name for name, own in SPEEDS.items() if own == self.acceleration != PLAIN)
        speed = next(named, None)
        told = self.acceleration.as_json() if speed is None else {"speed": speed}
        flags = [f"--{name.replace('_', '-')} {value}" for name, value in told.items()]
        if self.steps is not None:
            flags.append(f"--steps {self.steps}")
        return " ".join(flags) or "plain"

"""What a search asks of whoever measures, and what it is told meanwhile. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mindsd.pipelines.scores import Scores, Timing
from mindsd.pipelines.way import Way


@dataclass(frozen=True)
class Measuring:
    """A batch is being drawn: to look at ("images") or to take the time of ("rounds").

    Attributes:
        done, total: images, or rounds.
    """

    way: Way
    what: str
    done: int
    total: int


class Yardstick(Protocol):
    """Costs and savings of ways on one set of images; asking again costs nothing."""

    @property
    def number(self) -> int:
        """Images there are to judge by."""
        ...

    def refuses(self, way: Way) -> str | None:
        """Why the model cannot draw so; None when it can."""
        ...

    def scores(self, way: Way, number: int) -> Scores:
        """How the first `number` images drawn so compare with the plain ones."""
        ...

    def timing(self, way: Way) -> Timing:
        """Its seconds for one image, in turns with plain."""
        ...

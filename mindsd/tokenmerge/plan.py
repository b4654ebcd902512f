"""The options of token merging."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mindsd.errors import RequestError

MOST = 0.75  # a quarter of the tokens are destinations: no more than the rest can be merged
WAYS = ("match", "downsample")


@dataclass(frozen=True)
class TokenMerge:
    """How many tokens self-attention sees in a UNet.

    Attributes:
        ratio: share of the tokens that are merged, above 0 to 0.75 ("match" only).
        way: "match" merges the most alike tokens (Bolya and Hoffman, ToMe for Stable Diffusion,
            arXiv:2303.17604); "downsample" halves the sides of keys and values (ToDo,
            arXiv:2402.13573), which needs no matching.
        tokens: attention over fewer tokens than this stays as it is.
        refresh: steps for which a matching is used.
    """

    ratio: float = 0.5
    way: str = "match"
    tokens: int = 1024
    refresh: int = 5

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise RequestError(f"token merging goes by {' or '.join(WAYS)}, not {self.way!r}")
        real = isinstance(self.ratio, int | float) and not isinstance(self.ratio, bool)
        if not real or not math.isfinite(self.ratio) or not 0 < self.ratio <= MOST:
            raise RequestError(f"the merged share is above 0 up to {MOST}, got {self.ratio!r}")
        if self.tokens < 16 or self.refresh < 1:
            raise RequestError(f"token merging needs tokens >= 16 and refresh >= 1, got {self}")

    @classmethod
    def parse(cls, text: str) -> TokenMerge:
        """From "0.4" (match that share) or "downsample".

        Raises:
            RequestError: it is neither.
        """
        if text == "downsample":
            return cls(way=text)
        try:
            return cls(ratio=float(text))
        except ValueError as error:
            if isinstance(error, RequestError):
                raise
            raise RequestError(
                f"token merge {text!r} is neither a share like 0.4 nor downsample"
            ) from None

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return self.way if self.way == "downsample" else f"{self.ratio:g}"

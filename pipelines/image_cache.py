"""What the vision tower saw in pictures, known by their content: the same picture is seen once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from torch import Tensor

from mindsd.errors import RequestError
from mindsd.tokenmerge.visual import VisualMerge


@dataclass(frozen=True, eq=False)
class SeenImage:
    """One picture, seen.

    Attributes:
        key: a hash of its content and of what changes how it is seen.
        text: what stands for it in a prompt.
        tokens: how many placeholders the text has.
        grid: [1, 3] int64, patches in time, height and width, for models that ask; else None.
        features: of the placeholders that are left, [n, dim] of the tower's output and of deeper
            layers.
        kept: which of the placeholders are left where image tokens were merged; None for all.
    """

    key: bytes
    text: str
    tokens: int
    grid: Tensor | None
    features: tuple[Tensor, ...]
    kept: tuple[int, ...] | None = None

    @property
    def places(self) -> Sequence[int]:
        """Which of the placeholders are left, ascending."""
        return range(self.tokens) if self.kept is None else self.kept

    @property
    def bytes(self) -> int:
        return sum(own.nbytes for own in self.features)

    def merged(self, merge: VisualMerge, key: bytes) -> SeenImage:
        """The same with fewer tokens, known by another key."""
        kept, features = merge.apply(self.features)
        return replace(self, key=key, features=features, kept=tuple(kept.tolist()))


class ImageCache:
    """The pictures seen last, as many as fit into so many bytes; safe to use from any thread.

    Attributes:
        budget: bytes of features that are kept.
        hits, misses: how often a picture was known, and how often not.
    """

    def __init__(self, budget: int):
        if budget < 0:
            raise RequestError(f"a cache of images takes 0 bytes or more, got {budget}")
        self.budget = budget
        self.hits = self.misses = 0
        self._used = 0
        self._seen: OrderedDict[bytes, SeenImage] = OrderedDict()  # longest unused first
        self._lock = Lock()

    @property
    def counts(self) -> dict[str, Any]:
        """What it holds and how it served."""
        with self._lock:
            held = {"images": len(self._seen), "bytes": self._used}
            return held | {"hits": self.hits, "misses": self.misses}

    def find(self, key: bytes) -> SeenImage | None:
        """The picture with this key, if it is known."""
        with self._lock:
            found = self._seen.get(key)
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._seen.move_to_end(key)
            return found

    def known(self, key: bytes) -> SeenImage | None:
        """As `find`, but nobody's question: it is counted nowhere."""
        with self._lock:
            if key in self._seen:
                self._seen.move_to_end(key)
            return self._seen.get(key)

    def keep(self, seen: SeenImage) -> SeenImage:
        """Know a picture from now on; those unused longest give way.

        Returns:
            the one that is known: where two requests saw a picture at once, the first one's.
        """
        with self._lock:
            if (known := self._seen.get(seen.key)) is not None:
                return known
            if seen.bytes > self.budget:
                return seen
            self._seen[seen.key] = seen
            self._used += seen.bytes
            while self._used > self.budget:
                _, gone = self._seen.popitem(last=False)
                self._used -= gone.bytes
            return seen

    def clear(self) -> None:
        """Forget all of them, and how it served."""
        with self._lock:
            self._seen.clear()
            self._used = self.hits = self.misses = 0

"""Images in a prompt: which of its tokens stand for them, and what the model sees in their place.

what  is  <img> <img> <img> <img>  left  of ...      tokens
           f0    f1    f2    f3                      features: rows of the vision tower's output
 17   9   -6021 -1187 -9034 -7720   41   23          names, for the prefix cache
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from mindsd.errors import RequestError

Span = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Placeholders:
    """The images of one prompt.

    Attributes:
        places: positions of the tokens that stand for images, ascending.
        features: tensors of one row for each place, [n, dim]: what the vision tower gave, then what
            is added in deeper layers (DeepStack, arXiv:2406.04334).
        names: of every token of the prompt: two prompts whose names begin alike have the same keys
            and values there. A text token is named by its id, a placeholder by its image.
        whole: (start, stop) of tokens that see each other, so that they are computed in one
            forward; empty for models whose images are read from left to right.
        rotary: int64 [3, prompt], positions in time, height and width (M-RoPE, arXiv:2409.12191);
            None for models that count tokens.
        delta: what M-RoPE adds to the number of a token after the prompt.
    """

    places: Sequence[int]
    features: tuple[Tensor, ...]
    names: Sequence[int]
    whole: tuple[Span, ...] = ()
    rotary: Tensor | None = None
    delta: int = 0

    def __post_init__(self) -> None:
        assert all(len(own) == len(self.places) for own in self.features)
        assert self.rotary is None or self.rotary.shape == (3, len(self.names))
        assert not self.whole or self.whole[-1][1] < len(self.names), "a prompt ends with text"

    def between(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """The features of the tokens from `start` to `stop`; empty where there are none."""
        first, end = bisect_left(self.places, start), bisect_left(self.places, stop)
        return tuple(own[first:end] for own in self.features) if end > first else ()

    def positions(self, start: int, stop: int) -> Tensor:
        """int64 [3, stop - start]: the rotary positions of these tokens, known or yet to come."""
        later = torch.arange(start, stop) + self.delta
        found = later.expand(3, -1).clone()
        if self.rotary is not None and start < (known := self.rotary.shape[1]):
            found[:, : known - start] = self.rotary[:, start:stop]
        return found

    def spans(self, start: int, stop: int) -> tuple[Span, ...]:
        """Of `whole` those that some token from `start` to `stop` belongs to."""
        return tuple(span for span in self.whole if span[0] < stop and start < span[1])

    def cut(self, start: int, stop: int) -> int:
        """Where a forward that begins at `start` may end: at `stop`, else before the span that it
        would divide, else behind it."""
        for first, end in self.whole:
            if first < stop < end:
                return first if first > start else end
        return stop


def names_of(image: bytes, number: int) -> list[int]:
    """Names of the placeholders of one image.

    Args:
        image: a hash of its content and of all that changes what is seen of it. Every name is 63
            bits of a hash of it, so that tokens of two images are never taken for each other.
        number: how many tokens stand for it.

    Returns:
        negative numbers, for those of text tokens are not.
    """
    return [-1 - (_hashed(image, place) >> 1) for place in range(number)]


def runs(places: Sequence[int]) -> Iterator[Span]:
    """(start, stop) of neighbouring places."""
    start = 0
    for index in range(1, len(places) + 1):
        if index == len(places) or places[index] != places[index - 1] + 1:
            yield places[start], places[index - 1] + 1
            start = index


def check_apart(whole: Sequence[Span], firsts: Sequence[int], length: int) -> None:
    """See that no picture's keys and values depend on what follows it.

    Args:
        whole: spans of neighbouring placeholders.
        firsts: the first place of each picture.
        length: of the prompt.

    Raises:
        RequestError: the prompt ends with a picture, or two stand side by side.
    """
    if whole[-1][1] >= length:
        raise RequestError("a prompt ends with text, not with a picture; ask something about it")
    if not set(firsts) <= {start for start, _ in whole}:
        raise RequestError("two pictures stand side by side; this model needs text between them")


def _hashed(image: bytes, place: int) -> int:
    digest = blake2b(image + place.to_bytes(8, "little"), digest_size=8).digest()
    return int.from_bytes(digest, "little")

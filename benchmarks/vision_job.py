"""What vision.py has measured, what came out, and how large a made-up model is."""

from __future__ import annotations

from dataclasses import dataclass, field

CASES = ("question", "eight", "again", "tokens", "beside")
TOGETHER = 8  # questions at once
HEAD, PATCH, MERGE = 64, 16, 2  # of made-up models: width of a head, pixels, patches a side


@dataclass(frozen=True)
class Job:
    """What is measured, and how.

    Attributes:
        way: "generate", "batch" (`generate` of one padded batch), "mindsd"; for the case beside
            "chat", "images" or "both".
        caches: whether what was seen and computed before is used again; "seen" for the first only.
        merge: how many image tokens are merged (`VisualMerge.parse`); empty for none.
        new: tokens of an answer.
        side: pixels of a picture.
        scenes: about which questions are asked for accuracy.
        images, steps: that are drawn beside a chat.
    """

    case: str
    folder: str
    dtype: str
    threads: int
    way: str = ""
    caches: str = "all"
    merge: str = ""
    new: int = 32
    pictures: int = 6
    side: int = 128
    scenes: int = 100
    images: int = 32
    steps: int = 20
    shape: str = ""


@dataclass(frozen=True)
class Found:
    """What a measurement found.

    Attributes:
        numbers: by name.
        tokens: of every answer.
        margins: how far the likeliest token's logit was above the next, for each of the tokens;
            only of `generate`.
    """

    numbers: dict[str, float]
    tokens: list[list[int]] = field(default_factory=list)
    margins: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class Shape:
    """A made-up model: layers and width of its vision tower and its decoder, pixels a side."""

    tower: tuple[int, int]
    decoder: tuple[int, int]
    side: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """From "12x512,12x768,448".

        Raises:
            ValueError: it is not of that form, or the numbers make no model.
        """
        tower, decoder, side = text.split(",")
        (depth, seen), (layers, width) = (map(int, own.split("x")) for own in (tower, decoder))
        if min(depth, layers) < 2 or min(seen, width, int(side)) < 1:
            raise ValueError(text)
        if seen % HEAD or width % HEAD or int(side) % (PATCH * MERGE):
            raise ValueError(text)
        return cls((depth, seen), (layers, width), int(side))

"""Reading a picture back: what is in it, and is it what the caption says?

A pixel belongs to an object if its colour is far from the background's in CIELAB; connected pixels
are one object; its shape is the renderer's mask that overlaps it best.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .components import connected_components
from .renderer import master_mask
from .scenes import COLORS, RESOLUTION, SHAPES, Scene, Thing

FOREGROUND_DISTANCE = 17.0
SMALLEST_AREA = 60
BORDER = 3
TEMPLATE = 32
LEAST_OVERLAP = 0.7
SMALL_BELOW, LARGE_FROM = 33, 52
NEAR_BELOW, FAR_FROM = 0.42, 0.58
APART = 0.15

XYZ_OF_RGB = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)
WHITE_POINT = np.array([0.9505, 1.0, 1.089])


@dataclass(frozen=True)
class Seen:
    """An object found in a picture: centre (x, y) and extent in pixels, overlap 0..1."""

    shape: str
    color: str
    x: float
    y: float
    extent: int
    overlap: float

    @property
    def size(self) -> str:
        if self.extent < SMALL_BELOW:
            return "small"
        return "large" if self.extent >= LARGE_FROM else "regular"


@dataclass(frozen=True)
class Reading:
    """All that was read from one picture."""

    background: str
    things: tuple[Seen, ...]


def to_lab(pixels: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) in 0..255 to CIELAB (D65)."""
    values = np.asarray(pixels, np.float32) / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    xyz = linear @ XYZ_OF_RGB.T / WHITE_POINT
    curved = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(curved, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def color_name(lab: np.ndarray) -> str:
    """The named colour nearest to one CIELAB colour."""
    named = to_lab(np.array(list(COLORS.values())))
    return list(COLORS)[int(((named - lab) ** 2).sum(-1).argmin())]


def read_picture(pixels: np.ndarray) -> Reading:
    """Read a uint8 (128, 128, 3) picture."""
    lab = to_lab(pixels)
    border = np.ones(lab.shape[:2], bool)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    background = np.median(lab[border], 0)
    foreground = np.linalg.norm(lab - background, axis=-1) > FOREGROUND_DISTANCE
    parts = [p for p in connected_components(foreground) if p.sum() >= SMALLEST_AREA]
    return Reading(color_name(background), tuple(recognize(part, lab) for part in parts))


def recognize(part: np.ndarray, lab: np.ndarray) -> Seen:
    ys, xs = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    overlaps = {shape: overlap(normalize(part), template(shape)) for shape in SHAPES}
    best = max(overlaps, key=lambda shape: overlaps[shape])
    color = color_name(np.median(lab[part], 0))
    extent = int(max(ys[-1] - ys[0], xs[-1] - xs[0])) + 1
    center_x, center_y = (xs[0] + xs[-1] + 1) / 2, (ys[0] + ys[-1] + 1) / 2
    return Seen(best, color, float(center_x), float(center_y), extent, overlaps[best])


def normalize(part: np.ndarray) -> np.ndarray:
    """The part's bounding box as float32 (32, 32) coverage."""
    ys, xs = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    box = part[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1].astype(np.uint8) * 255
    scaled = Image.fromarray(box).resize((TEMPLATE, TEMPLATE), Image.Resampling.BOX)
    return np.asarray(scaled, np.float32) / 255


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two coverages."""
    return float(np.minimum(first, second).sum() / np.maximum(first, second).sum())


@functools.cache
def template(shape: str) -> np.ndarray:
    return normalize(np.asarray(master_mask(shape)) > 127)


def check(scene: Scene, pixels: np.ndarray) -> dict[str, bool]:
    """Does the picture show what the scene's caption says? One answer per attribute it names.

    `all` is true if every answer is. Colours and shapes are compared as a whole, so one object too
    many or too few makes them wrong as well.
    """
    reading = read_picture(pixels)
    seen, wanted = reading.things, scene.things
    answers = {
        "count": len(seen) == len(wanted),
        "color": sorted(s.color for s in seen) == sorted(w.color for w in wanted),
        "shape": sorted(s.shape for s in seen) == sorted(w.shape for w in wanted)
        and all(s.overlap >= LEAST_OVERLAP for s in seen),
        "binding": sorted(look(s) for s in seen) == sorted(look(w) for w in wanted),
    }
    if scene.background_named:
        answers["background"] = reading.background == scene.background
    if scene.position is not None:
        answers["position"] = any(is_at(s, scene.position) for s in seen)
    if scene.task == "single":
        answers["size"] = any(s.size == wanted[0].size for s in seen)
    if scene.relation is not None:
        answers["relation"] = any(
            stand(first, scene.relation, second)
            for first in seen
            for second in seen
            if look(first) == look(wanted[0]) and look(second) == look(wanted[1])
        )
    return answers | {"all": all(answers.values())}


def look(thing: Thing | Seen) -> tuple[str, str]:
    return thing.color, thing.shape


def is_at(thing: Seen, position: str) -> bool:
    """Is the thing where the words say? An axis they leave out must be in the middle."""
    words = position.split()
    x, y = thing.x / RESOLUTION, thing.y / RESOLUTION
    return third(x, "left" in words, "right" in words) and third(
        y, "top" in words, "bottom" in words
    )


def third(coordinate: float, near: bool, far: bool) -> bool:
    if near:
        return coordinate < NEAR_BELOW
    if far:
        return coordinate >= FAR_FROM
    return NEAR_BELOW <= coordinate < FAR_FROM


def stand(first: Seen, relation: str, second: Seen) -> bool:
    """Does `first` stand in the relation to `second`, clearly more than across it?"""
    right, down = (second.x - first.x) / RESOLUTION, (second.y - first.y) / RESOLUTION
    ahead: Mapping[str, tuple[float, float]] = {
        "left of": (right, down),
        "right of": (-right, down),
        "above": (down, right),
        "below": (-down, right),
    }
    along, across = ahead[relation]
    return along > APART and along > abs(across)

"""Painting a scene: anti-aliased shapes on a plain background."""

import functools
import math
import random

import numpy as np
from PIL import Image, ImageDraw

from .scenes import COLORS, RESOLUTION, SHAPES, Scene

MASTER = 512
COLOR_JITTER = 4

Point = tuple[float, float]


def star_points() -> list[Point]:
    radii = [0.53 if i % 2 == 0 else 0.22 for i in range(10)]
    turns = [-math.pi / 2 + i * math.pi / 5 for i in range(10)]
    return [
        (0.5 + r * math.cos(a), 0.53 + r * math.sin(a)) for r, a in zip(radii, turns, strict=True)
    ]


def heart_points() -> list[Point]:
    points = []
    for t in np.linspace(0, 2 * np.pi, 200):
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((0.5 + 16 * math.sin(t) ** 3 / 33, 0.46 - y / 33))
    return points


def cross_points() -> list[Point]:
    a, b, c, d = 0.02, 0.34, 0.66, 0.98
    return [
        (b, a),
        (c, a),
        (c, b),
        (d, b),
        (d, c),
        (c, c),
        (c, d),
        (b, d),
        (b, c),
        (a, c),
        (a, b),
    ] + [(b, b)]


POLYGONS: dict[str, list[Point]] = {
    "square": [(0.05, 0.05), (0.95, 0.05), (0.95, 0.95), (0.05, 0.95)],
    "triangle": [(0.5, 0.03), (1.0, 0.95), (0.0, 0.95)],
    "diamond": [(0.5, 0.0), (0.9, 0.5), (0.5, 1.0), (0.1, 0.5)],
    "cross": cross_points(),
    "star": star_points(),
    "heart": heart_points(),
}


@functools.cache
def master_mask(shape: str) -> Image.Image:
    """The shape as a 512 by 512 mask ("L", 0 or 255)."""
    if shape not in SHAPES:
        raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")
    image = Image.new("L", (MASTER, MASTER))
    draw = ImageDraw.Draw(image)
    if shape in POLYGONS:
        draw.polygon([(x * MASTER, y * MASTER) for x, y in POLYGONS[shape]], fill=255)
        return image
    draw.ellipse((0, 0, MASTER - 1, MASTER - 1), fill=255)
    if shape == "ring":
        hole = 0.27 * MASTER
        draw.ellipse((hole, hole, MASTER - hole, MASTER - hole), fill=0)
    return image


@functools.cache
def mask(shape: str, extent: int) -> np.ndarray:
    """The shape's coverage, float32 (extent, extent, 1) in 0..1."""
    small = master_mask(shape).resize((extent, extent), Image.Resampling.BOX)
    return np.asarray(small, np.float32)[..., None] / 255


def render(scene: Scene, rng: random.Random) -> np.ndarray:
    """Paint a scene: uint8 (128, 128, 3). `rng` shifts each colour a little."""
    canvas = np.empty((RESOLUTION, RESOLUTION, 3), np.float32)
    canvas[:] = shifted(scene.background, rng)
    for thing in scene.things:
        top, left = thing.y - thing.extent // 2, thing.x - thing.extent // 2
        patch = canvas[top : top + thing.extent, left : left + thing.extent]
        cover = mask(thing.shape, thing.extent)
        patch += (shifted(thing.color, rng) - patch) * cover
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)


def shifted(color: str, rng: random.Random) -> np.ndarray:
    shift = [rng.uniform(-COLOR_JITTER, COLOR_JITTER) for _ in range(3)]
    return np.clip(np.array(COLORS[color], np.float32) + shift, 0, 255).astype(np.float32)

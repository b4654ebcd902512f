"""Pictures for training tiny-vlm, and what is over each of their patches."""

# diffusers annotates less than it takes and returns.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from .renderer import render
from .scenes import COLORS, SHAPES, Scene, sample_scene
from .vae import to_model
from .vlm_parts import GRID, MERGE, PATCH

OBJECT_MARGIN = 3
NOISE, BRIGHTNESS = 6 / 127.5, 10 / 127.5
LATENT_NOISE = 0.1
ENCODED_AT_ONCE = 25


def patch_labels(scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    """Colour and shape of the thing over each patch, 0 for none: two int64 (scenes * patches)."""
    centers = (torch.arange(GRID) + 0.5) * PATCH
    colors = torch.zeros(len(scenes), GRID, GRID, dtype=torch.int64)
    shapes = torch.zeros_like(colors)
    for scene, color, shape in zip(scenes, colors, shapes, strict=True):
        for thing in scene.things:
            reach = thing.extent / 2 + OBJECT_MARGIN
            inside_y = (centers - thing.y).abs() < reach
            inside = inside_y[:, None] & ((centers - thing.x).abs() < reach)
            color[inside] = 1 + list(COLORS).index(thing.color)
            shape[inside] = 1 + SHAPES.index(thing.shape)
    return in_patch_order(colors), in_patch_order(shapes)


def in_patch_order(cells: Tensor) -> Tensor:
    """(batch, rows, columns) flattened in the order of `to_patches`."""
    blocks = cells.unflatten(2, (-1, MERGE)).unflatten(1, (-1, MERGE))
    return blocks.transpose(2, 3).flatten()


def disturb(pixels: Tensor) -> Tensor:
    """Blur, brighten and add noise to float32 (batch, 3, 128, 128), a little and not always.

    Pictures that a small diffusion model draws are not as clean as the renderer's.
    """

    def strength(most: float) -> Tensor:
        return most * (2 * torch.rand(len(pixels), 1, 1, 1) - 1).clamp(min=0)

    smooth = F.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False)
    shift = strength(BRIGHTNESS) - strength(BRIGHTNESS)
    noise = strength(NOISE) * torch.randn_like(pixels)
    return pixels.lerp(smooth, strength(1.0)) + shift + noise


class Pictures:
    """Training scenes with their pictures; a share of them comes through an autoencoder."""

    def __init__(self, redrawn: list[tuple[Scene, np.ndarray]], share: float) -> None:
        self.redrawn, self.share = redrawn, share if redrawn else 0.0

    def draw(self, number: int, rng: random.Random) -> tuple[list[Scene], Tensor]:
        """Scenes and their pictures, float32 (number, 3, 128, 128) in -1..1."""
        drawn = [self.draw_one(rng) for _ in range(number)]
        pictures = torch.from_numpy(np.stack([picture for _, picture in drawn]))
        pixels = to_model(pictures.permute(0, 3, 1, 2)).contiguous()
        return [scene for scene, _ in drawn], disturb(pixels)

    def draw_one(self, rng: random.Random) -> tuple[Scene, np.ndarray]:
        if rng.random() < self.share:
            return rng.choice(self.redrawn)
        scene = sample_scene(rng, held_out=False)
        return scene, render(scene, rng)


@torch.no_grad()
def redraw(vae_folder: Path, number: int, seed: int) -> list[tuple[Scene, np.ndarray]]:
    """Training scenes as the autoencoder of tiny-sd shows them, uint8 (128, 128, 3)."""
    vae = AutoencoderKL.from_pretrained(vae_folder, dtype=torch.float32).eval()
    rng, found = random.Random(seed), []
    for start in range(0, number, ENCODED_AT_ONCE):
        many = min(ENCODED_AT_ONCE, number - start)
        scenes = [sample_scene(rng, held_out=False) for _ in range(many)]
        pictures = torch.from_numpy(np.stack([render(scene, rng) for scene in scenes]))
        latents = vae.encode(to_model(pictures.permute(0, 3, 1, 2))).latent_dist.mode()
        shown = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample
        levels = ((shown.clamp(-1, 1) + 1) * 127.5).round().byte()
        found += zip(scenes, levels.permute(0, 2, 3, 1).numpy(), strict=True)
    return found

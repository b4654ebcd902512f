"""Rendering training scenes and encoding them once, so the denoiser need not.

Scene number i is made from the seed i, so only the latents are stored: float16
(number, 4, 32, 32) in `latents/FIRST.npy`. Files that exist are kept; several processes may each
make their own range.
"""

# diffusers annotates less than it takes and returns.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import argparse
import os
import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from .renderer import render
from .scenes import Scene, sample_scene
from .vae import to_model

SEED = 1_000_000
BATCH = 25
FILE_SCENES = 1000


def training_scene(index: int) -> tuple[Scene, random.Random]:
    """Training scene number `index` and the generator to render it with."""
    rng = random.Random(SEED + index)
    return sample_scene(rng, held_out=False), rng


@torch.no_grad()
def encode(vae: AutoencoderKL, first: int, number: int, device: str = "cpu") -> Tensor:
    """Latents of scenes first..first+number, float16 (number, 4, height / 4, width / 4)."""
    parts = []
    for start in range(first, first + number, BATCH):
        indices = range(start, min(start + BATCH, first + number))
        pictures = np.stack([render(*training_scene(index)) for index in indices])
        pixels = to_model(torch.from_numpy(pictures).permute(0, 3, 1, 2)).to(device)
        latents = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
        parts.append(latents.half().cpu())
    return torch.cat(parts)


def write_latents(out: Path, first: int, number: int, device: str = "cpu") -> None:
    """Fill out/latents with files of FILE_SCENES scenes each."""
    vae = AutoencoderKL.from_pretrained(out / "vae").eval().to(device)
    folder = out / "latents"
    folder.mkdir(exist_ok=True)
    for start in range(first, first + number, FILE_SCENES):
        path = folder / f"{start:07d}.npy"
        if path.exists():
            continue
        count = min(FILE_SCENES, first + number - start)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, encode(vae, start, count, device).numpy())
        os.replace(partial, path)
        print(path, flush=True)


def read_latents(out: Path) -> tuple[Tensor, list[Scene]]:
    """Everything encoded so far: float16 latents and their scenes."""
    paths = sorted((out / "latents").glob("*.npy"))
    if not paths:
        raise FileNotFoundError(f"{out / 'latents'} holds no latents: run the latents recipe first")
    parts, scenes = [], []
    for path in paths:
        part = np.load(path)
        parts.append(torch.from_numpy(part))
        scenes += [training_scene(int(path.stem) + i)[0] for i in range(len(part))]
    return torch.cat(parts), scenes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder the vae is in")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--number", type=int, default=40_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    write_latents(options.out, options.first, options.number, options.device)

"""Latents to a rough picture, by one small matrix: no decoder runs between steps.

Every latent cell is mapped to one RGB pixel by an affine map that is fitted to the model's own
decoder once, by least squares on a few random latents. Works for any autoencoder whose latents are
scaled by `scaling_factor` (and `shift_factor`); where the layout is not known there is no preview.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from mindsd.request import Preview, Request

CELLS = 8  # side of the latents that the fit decodes
SAMPLES = 8


@dataclass(frozen=True)
class LatentToRGB:
    """weights [channels + 1, 3], fp32, on the CPU: the last row is the offset; RGB in 0 to 1."""

    weights: torch.Tensor

    def picture(self, latents: torch.Tensor, width: int, height: int) -> Image.Image | None:
        """The first image of `latents` [B, C, h, w], [B, C, 1, h, w] or packed [B, h/2 * w/2, 4 C].

        Args:
            width, height: pixels of the final image; they tell the shape of packed latents.

        Returns:
            RGB of w x h pixels, or None where the layout is none of these.
        """
        cells = unpack(latents, self.weights.shape[0] - 1, width / height)
        if cells is None:
            return None
        cells = cells.float().cpu()
        flat = cells.flatten(1).T @ self.weights[:-1] + self.weights[-1]
        pixels = (flat.clamp(0, 1) * 255).round().to(torch.uint8)
        return Image.fromarray(pixels.reshape(*cells.shape[1:], 3).numpy())


def unpack(latents: torch.Tensor, channels: int, aspect: float) -> torch.Tensor | None:
    """The first image's latents as [channels, h, w], or None for an unknown layout."""
    if latents.ndim == 5 and latents.shape[2] == 1:
        latents = latents[:, :, 0]
    if latents.ndim == 4 and latents.shape[1] == channels:
        return latents[0]
    if latents.ndim != 3 or latents.shape[2] != 4 * channels:
        return None
    count = latents.shape[1]  # Flux and Qwen-Image pack 2x2 cells into one token
    rows = round((count / aspect) ** 0.5)
    if rows < 1 or count % rows:
        return None
    grid = latents[0].reshape(rows, count // rows, channels, 2, 2)
    return grid.permute(2, 0, 3, 1, 4).reshape(channels, rows * 2, -1)


class Previews:
    """Rough pictures of one pipeline's images; its map is fitted when the first is asked for."""

    def __init__(self, pipe: DiffusionPipeline):
        self._pipe = pipe

    def emit(self, request: Request, latents: torch.Tensor, step: int, width: int, height: int):
        """Tell what an image of this size looks like after a step, where that can be told."""
        if self._map is None:
            return
        picture = self._map.picture(latents, width, height)
        if picture is not None:
            request.emit(Preview(step, picture))

    @cached_property
    def _map(self) -> LatentToRGB | None:
        return fit(self._pipe)


@torch.inference_mode()
def fit(pipe: DiffusionPipeline) -> LatentToRGB | None:
    """Fit the map to the pipeline's own autoencoder; None where it has none that is known."""
    vae: Any = getattr(pipe, "vae", None)
    config: Any = getattr(vae, "config", None)
    if vae is None or not hasattr(config, "latent_channels") or not hasattr(vae, "decode"):
        return None
    if getattr(config, "latents_mean", None) is not None:
        return None  # scaled per channel; pipelines differ in how
    latents = _samples(config.latent_channels)
    scale, shift = getattr(config, "scaling_factor", 1.0), getattr(config, "shift_factor", 0.0)
    device, dtype = next(vae.parameters()).device, next(vae.parameters()).dtype
    pixels = vae.decode((latents / scale + (shift or 0.0)).to(device, dtype)).sample
    if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.isfinite().all():
        return None
    pixels = torch.nn.functional.adaptive_avg_pool2d(pixels.float().cpu(), CELLS) / 2 + 0.5
    inputs = latents.permute(0, 2, 3, 1).reshape(-1, config.latent_channels)
    ones = torch.ones(len(inputs), 1)
    solved = np.linalg.lstsq(
        torch.cat([inputs, ones], 1).numpy(), pixels.permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    )[0]
    return LatentToRGB(torch.from_numpy(solved.astype(np.float32)))


def _samples(channels: int) -> torch.Tensor:
    """Smooth random latents of unit variance [SAMPLES, channels, CELLS, CELLS], fp32."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(SAMPLES, channels, 2, 2, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=CELLS, mode="bilinear")

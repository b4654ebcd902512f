"""How far an accelerated image lies from the plain one: PSNR and SSIM, in float64.

Peers' figures flatter where differences are squared in 8 bits (they wrap) or averaged over means;
these are held against known pairs in the tests.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image

from mindsd.errors import RequestError

WINDOW, SIGMA = 11, 1.5  # of the Gaussian, as in Wang et al., 2004 (doi 10.1109/TIP.2003.819861)
STABLE = (0.01**2, 0.03**2)


def pixels(image: Image.Image | np.ndarray) -> np.ndarray:
    """RGB in 0 to 1, float64 [H, W, 3]; arrays are in 0 to 1, or in 0 to 255 when of bytes."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"), dtype=np.float64) / 255
    return np.asarray(image, dtype=np.float64) / (255 if image.dtype == np.uint8 else 1)


def psnr(image: Image.Image | np.ndarray, reference: Image.Image | np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels; inf for equal images.

    Raises:
        RequestError: the two differ in size.
    """
    a, b = _pair(image, reference)
    error = float(np.square(a - b).mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(image: Image.Image | np.ndarray, reference: Image.Image | np.ndarray) -> float:
    """Mean structural similarity, at most 1: Gaussian window of 11 pixels, mean over channels.

    Raises:
        RequestError: the two differ in size, or are smaller than the window.
    """
    pair = _pair(image, reference)
    if min(pair[0].shape[:2]) < WINDOW:
        raise RequestError(f"SSIM needs sides of at least {WINDOW}, got {pair[0].shape[:2]}")
    a, b = (torch.from_numpy(x).permute(2, 0, 1)[:, None] for x in pair)
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a**2
    variance_b = _blur(b * b) - mean_b**2
    together = _blur(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + STABLE[0]) / (mean_a**2 + mean_b**2 + STABLE[0])
    shape = (2 * together + STABLE[1]) / (variance_a + variance_b + STABLE[1])
    return float((light * shape).mean())


def _pair(
    image: Image.Image | np.ndarray, reference: Image.Image | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    a, b = pixels(image), pixels(reference)
    if a.shape != b.shape:
        raise RequestError(f"only images of one size can be compared, got {a.shape} and {b.shape}")
    return a, b


def _blur(planes: torch.Tensor) -> torch.Tensor:
    """Weighted means over windows that lie wholly inside."""
    distance = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(distance**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    rows = torch.nn.functional.conv2d(planes, weights.reshape(1, 1, -1, 1))
    return torch.nn.functional.conv2d(rows, weights.reshape(1, 1, 1, -1))

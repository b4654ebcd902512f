"""Convolutions of 3 x 3 in float32 with a quarter of the multiplications (Winograd's F(4x4, 3x3)).

arXiv:1509.09308, in C (cpu_fused_winograd.c). Where images are large, what a denoiser or an
autoencoder multiplies are such convolutions. Weights are kept as they are, in another order, and
transformed block by block in every call, so a model takes no more memory. With the points that were
chosen, results are as far from exact ones as plain sums are. benchmarks/cpu_diffusion.py shows what
models gain in float32. An image of a tile or two (4 x 4 pixels) is slower so. Bfloat16 stays
oneDNN's, whose instructions for it multiply more than four times as fast.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindsd.native import Source, address, load, threads, why_absent
from mindsd.prepack import After, Kind, packable
from mindsd.prepack_conv import CONV

SOURCE = Source(
    Path(__file__).with_name("cpu_fused_winograd.c"), needs=("avx2",), flags=("-march=native",)
)
LANES, BLOCK = 16, 32  # inputs are whole LANES, outputs whole BLOCKs
LEAST = 64  # channels of either side; below, the transforms take longer than the products
ROOM = 16 * 2**20  # bytes of tiles at once: threads meet three times for so many
PLACES = 36  # numbers of a tile in each channel
TOLERANCE = 1e-5  # of the largest number; plain sums are off by about 1e-6


class Blocked(Tensor):
    """A weight as the C code reads it: [outputs / BLOCK, inputs, 3, 3, BLOCK]."""

    def to_dense(self, *args: Any, **kwargs: Any) -> Tensor:
        """As torch has it: [outputs, inputs, 3, 3]."""
        return self.as_subclass(Tensor).permute(0, 4, 1, 2, 3).flatten(0, 1)


def can_prepack_winograd(module: nn.Module) -> bool:
    """Whether it is a convolution of 3 x 3 whose image keeps its size, that C computes here."""
    if type(module) is not nn.Conv2d or module.padding_mode != "zeros" or module.groups != 1:
        return False
    shape = module.kernel_size, module.stride, module.padding, module.dilation
    if shape != ((3, 3), (1, 1), (1, 1), (1, 1)) or module.weight.dtype is not torch.float32:
        return False
    inputs, outputs = module.in_channels, module.out_channels
    whole = inputs % LANES == 0 and outputs % BLOCK == 0 and min(inputs, outputs) >= LEAST
    return whole and packable(module) and why_not() is None


@lru_cache(maxsize=1)
def why_not() -> str | None:
    """Why no convolution is computed so here, or None once one gave the right numbers."""
    if (reason := why_absent(SOURCE)) is not None:
        return reason
    draw = torch.Generator().manual_seed(0)
    shapes = (2, 80, 7, 10), (64,), (64, 80, 3, 3)
    x, bias, weight = (
        torch.randn(shape, generator=draw, dtype=torch.float32, device="cpu") for shape in shapes
    )
    found = winograd(x, _blocked(weight), bias)
    plain = F.conv2d(x, weight, bias, padding=1)
    apart = float((found - plain).abs().max() / plain.abs().max())
    return None if apart <= TOLERANCE else f"it is off by {apart:.1e} of the largest number"


def winograd(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, add: Tensor | None = None
) -> Tensor:
    """conv2d(x, weight, bias, padding=1) + add.

    Args:
        x: [images, channels, height, width], float32; read channels last.
        weight: as `Blocked` says.
        bias: [outputs] or None.
        add: like what is returned, or None.

    Returns:
        [images, outputs, height, width], channels last.

    Raises:
        RuntimeError: the shapes do not fit; torch says which.
    """
    images, inputs, height, width = x.shape
    shape = images, weight.shape[0] * BLOCK, height, width
    numbers = [own for own in (x, bias, add) if own is not None]
    fits = inputs == weight.shape[1] and all(own.dtype is torch.float32 for own in numbers)
    if not (fits and x.is_cpu and x.numel() and _fit(bias, shape[1:2]) and _fit(add, shape)):
        plain = F.conv2d(x, weight.to_dense(), bias, padding=1)
        return plain if add is None else plain + add
    x = x.contiguous(memory_format=torch.channels_last)
    bias = None if bias is None else bias.contiguous()
    add = None if add is None else add.contiguous(memory_format=torch.channels_last)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    library, count = _library(), threads()
    image = [ctypes.c_long(own) for own in (images, height, width)]
    most = max(1, ROOM // (4 * PLACES * inputs))
    tiles = ctypes.c_long(library.winograd_tiles(*image, ctypes.c_long(most)))
    room = x.new_empty(library.winograd_room(ctypes.c_long(inputs), tiles, count))
    given = [ctypes.c_void_p(address(own)) for own in (x, weight, bias, add, y, room)]
    library.winograd(*given, *image, *map(ctypes.c_long, (inputs, shape[1])), tiles, count)
    return y


@lru_cache(maxsize=1)
def _library() -> Any:
    library: Any = load(SOURCE)
    library.winograd_room.restype = library.winograd_tiles.restype = ctypes.c_long
    return library


def _fit(own: Tensor | None, shape: tuple[int, ...]) -> bool:
    return own is None or (own.shape == shape and own.is_cpu)


def _blocked(weight: Tensor) -> Blocked:
    laid = weight.unflatten(0, (-1, BLOCK)).permute(0, 2, 3, 4, 1).contiguous()
    return laid.as_subclass(Blocked)


def _pack(module: nn.Conv2d) -> Tensor:
    return _blocked(module.weight.detach())


def _run(module: nn.Conv2d, input: Tensor, packed: Tensor, after: After) -> Tensor:
    if after.activation != "none":
        raise ValueError(f"{after.activation!r} cannot follow a convolution in the same call")
    return winograd(input, packed, module.bias, after.add)


WINOGRAD = Kind(can_prepack_winograd, _pack, _run, CONV.plain, dimensions=4)

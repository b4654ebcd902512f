"""An autoencoder that decodes in tiles what does not fit in memory whole.

The worst moment of drawing is the decoder's last level, with feature maps as large as the picture.
Where memory runs out there (or, on a CPU, where running out would end the process, where less is
free than it takes) the picture is decoded in overlapping tiles of half its longest side, which take
a quarter of that where it is square, by diffusers' own `tiled_decode`. Norms then see a tile
instead of the picture: the colours of tiles differ a little, and the request is told so. The tiles
of several requests run in one forward as all else does.

Whether and how it is cut is said on the module, so each request has a copy of it; weights are
shared.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from diffusers import AutoencoderKL

from mindsd.device import Device, free_cached, is_out_of_memory
from mindsd.errors import OutOfMemory
from mindsd.request import Notice, Request
from mindsd.wrap import wrap

LEAST = 16  # latent cells of a tile's side: below, it is all edge
STEP = 4  # cells: diffusers takes three quarters of a tile, and rounds cells and pixels apart


def can_tile(vae: Any) -> bool:
    """Whether this autoencoder of diffusers decodes in tiles that are ours to size."""
    return isinstance(vae, AutoencoderKL)


def tile_side(height: int, width: int) -> int:
    """Cells of a tile's side, for latents of this size: half of the longer one, in whole steps."""
    return max(LEAST, -(-max(height, width) // (2 * STEP)) * STEP)


def tile_share(height: int, width: int) -> float:
    """Which part of the whole a tile is, and takes."""
    side = tile_side(height, width)
    return min(side, height) * min(side, width) / (height * width)


def tileable(vae: Any, request: Request, device: Device) -> Any:
    """A copy for one request that decodes in tiles where it must; `vae` itself where it cannot."""
    if not can_tile(vae):
        return vae
    mine = copy.copy(vae)
    wrap(mine, "decode", partial(_decode, mine, request, device))
    return mine


def _decode(
    mine: Any,
    request: Request,
    device: Device,
    whole: Any,
    z: Any,
    return_dict: bool = True,
    **more: Any,
) -> Any:
    """What `whole` gives for latents [B, C, h, w], in tiles where memory is short.

    Raises:
        OutOfMemory: a tile does not fit either, or the picture is too small to be cut.
    """
    side = tile_side(*z.shape[-2:])
    why = _short(request.need.memory, tile_share(*z.shape[-2:]), device)
    if why is None or side >= max(z.shape[-2:]):
        try:
            return whole(z, return_dict=return_dict, **more)
        except Exception as error:
            if not is_out_of_memory(error) or side >= max(z.shape[-2:]):
                raise
            why = "memory ran out"
    # Outside the handler: the failed decode's frames, and the memory they hold, are gone here.
    free_cached()
    scale = 2 ** (len(mine.config.block_out_channels) - 1)  # as diffusers reckons
    mine.tile_latent_min_size, mine.tile_sample_min_size = side, side * scale
    request.emit(
        Notice(
            f"it is decoded in tiles of {side * scale}x{side * scale} pixels, for {why}; "
            "they may differ a little in colour"
        )
    )
    return mine.tiled_decode(z, return_dict=return_dict)


def _short(needed: int, share: float, device: Device) -> str | None:
    """Why a decode of so many bytes should not be tried; other devices say so when it is.

    Raises:
        OutOfMemory: nor should one of a tile, which takes such a share.
    """
    if device.kind != "cpu" or needed <= (free := device.free()):
        return None
    if share < 1 and needed * share > free:
        raise OutOfMemory(
            f"a decode in tiles needs about {needed * share / 2**30:.1f} GiB and "
            f"{free / 2**30:.1f} are free; ask for a smaller size"
        )
    return f"the whole needs about {needed / 2**30:.1f} GiB and {free / 2**30:.1f} are free"

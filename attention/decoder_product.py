"""Linear layers laid out for the products of few rows in C (decoder_product.h).

Weights stay what they are (float32, bfloat16), or become int8 with a scale for each output; sums
are float32 always. What a product is given, and gives, has the model's dtype: an 8-bit weight is
exact in either, so nothing else is rounded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mindsd import native
from mindsd.device import cpu_facts

from .decoder_shelf import BYTE, LINE, Shelf, aligned

PANEL, LANES = 32, 16
LEVELS = 127  # int8 is used symmetrically
KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}
FILE = Path(__file__).with_name("decoder_layer.c")
EIGHTS = ("avx2",)  # numbers at a time; and FMA, which the C file asks the processor about itself
PLAIN = ("avx512f",)
PAIRS = ("avx512f", "avx512_bf16")  # and VBMI, asked likewise
TILES = ("amx_bf16",)
FLAGS = {
    "avx2": ("-mavx2", "-mfma"),
    "avx512f": ("-mavx512f",),
    "avx512_bf16": ("-mavx512bf16", "-mavx512vbmi", "-mavx512bw", "-mavx512vl", "-mavx512dq"),
    "amx_bf16": ("-mamx-tile", "-mamx-bf16"),
}
ROWS = 64  # of one call


class Product(ctypes.Structure):
    """One packed linear layer, as C reads it."""

    _fields_ = [
        ("weight", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("weights", ctypes.c_int64),
        ("given", ctypes.c_int64),
    ]


@dataclass(frozen=True, eq=False)
class Packed:
    """A product and the tensors that it points to."""

    product: Product
    tensors: tuple[Tensor | None, ...]

    @property
    def nbytes(self) -> int:
        return sum(own.nbytes for own in self.tensors if own is not None)


def why_lacking(dtype: torch.dtype, features: Sequence[str]) -> str | None:
    """What a processor with these instructions lacks for products of a dtype; None for nothing."""
    wide = set(EIGHTS + PLAIN) & set(features)
    if dtype is torch.float32:
        return None if wide else f"this processor has neither {' nor '.join(EIGHTS + PLAIN)}"
    missing = [name for name in PAIRS if name not in features]
    if not missing:
        return None
    instead = "; float32 runs in C here" if wide else ""
    return f"this processor has no {' and no '.join(missing)}{instead}"


def source(features: Sequence[str]) -> native.Source:
    """The C file for a processor with these instructions."""
    known = next((own for own in (PAIRS, PLAIN) if set(own) <= set(features)), EIGHTS)
    own = known + (TILES if known == PAIRS and set(TILES) <= set(features) else ())
    return native.Source(FILE, own, tuple(flag for name in own for flag in FLAGS[name]))


def _why_forbidden(features: Sequence[str]) -> str:
    """What `decoder_permitted` asked for in vain."""
    if not set(PLAIN) & set(features):
        return "this processor has no fma"
    return "this processor has no avx512_vbmi, or the system keeps AMX tiles from this process"


@lru_cache
def library(dtype: torch.dtype, features: tuple[str, ...] | None = None) -> ctypes.CDLL | str:
    """The compiled file for products of a dtype, or why there is none.

    Args:
        features: of the processor, where fewer are to be used than it has.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        return f"products in C are for float32 and bfloat16, not {dtype}".replace("torch.", "")
    here = cpu_facts()[1] if features is None else features
    if reason := why_lacking(dtype, here):
        return reason
    found = native.load(source(here))
    if isinstance(found, str):
        return found
    if not found.decoder_permitted():
        return _why_forbidden(here)
    for name in ("decoder_layer_room", "decoder_product_room"):
        getattr(found, name).restype = ctypes.c_int64
    return found


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight [N, K] in 8 bits: levels int8 [N, K], and float32 [N], what one level is worth."""
    wide = weight.detach().float()
    scale = wide.abs().amax(1).clamp_(min=1e-12) / LEVELS
    return (wide / scale[:, None]).round_().to(torch.int8), scale


def pack(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    *,
    eight_bits: bool = False,
    by_turns: bool = False,
    shelf: Shelf | None = None,
) -> Packed:
    """Linear layers of the same inputs as one product.

    Args:
        weights: [N, K] each, float32 or bfloat16.
        biases: [N] each.
        by_turns: a panel of each in turn, instead of one layer after the other.
        shelf: where it is to lie; None for anywhere.
    """
    dtype = weights[0].dtype
    parts = [rounded(own) if eight_bits else (own.detach(), None) for own in weights]
    join = _by_turns if by_turns else _behind
    levels = _padded(join([own for own, _ in parts]))
    scale = join([own for _, own in parts if own is not None]) if eight_bits else None
    added = [
        torch.zeros(len(own)) if add is None else add.detach().float()
        for own, add in zip(weights, biases, strict=True)
    ]
    tensors = (
        _ordered(levels, dtype) if shelf is None else shelf.keep(_ordered(levels, dtype)),
        None if scale is None else _long(scale, len(levels)),
        None if all(add is None for add in biases) else _long(join(added), len(levels)),
    )
    weight, scale, bias = (native.address(own) for own in tensors)
    kind = KINDS[torch.int8 if eight_bits else dtype]
    rows, columns = levels.shape
    return Packed(Product(weight, scale, bias, columns, rows, kind, KINDS[dtype]), tensors)


def _behind(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts))


def _by_turns(parts: Sequence[Tensor]) -> Tensor:
    """Panel by panel of each: [N, ...] x n -> [n * N up to a whole panel, ...]."""
    whole = [_long(own, -(-len(own) // PANEL) * PANEL) for own in parts]
    return torch.stack([own.unflatten(0, (-1, PANEL)) for own in whole], 1).flatten(0, 2)


def _long(own: Tensor, rows: int) -> Tensor:
    """With zeros behind it."""
    return F.pad(own, (0, 0) * (own.dim() - 1) + (0, rows - len(own))).contiguous()


def _padded(weight: Tensor) -> Tensor:
    rows, columns = weight.shape
    return F.pad(weight, (0, -columns % PANEL, 0, -rows % PANEL))


def _ordered(levels: Tensor, dtype: torch.dtype) -> Tensor:
    """[N, K] in the order that the loops read (decoder_product.h)."""
    rows, columns = levels.shape
    if dtype is torch.float32:
        return levels.view(-1, PANEL, columns).transpose(1, 2).contiguous()
    pairs = levels.view(rows // PANEL, PANEL, columns // 2, 2).transpose(1, 2)
    if levels.dtype is not torch.int8:
        return pairs.contiguous()
    halves = pairs.reshape(rows // PANEL, columns // 2, 2, 4, 8).transpose(2, 3)
    return (halves.abs() | (halves < 0).to(torch.int8) * -128).contiguous()


class Linear:
    """One packed linear layer, called by itself.

    Args:
        weight, bias: [N, K] and [N].
        eight_bits: round the weight.
        shelf: where it is to lie.

    Raises:
        RuntimeError: there is no library for its dtype; ask `library` first.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        eight_bits: bool = False,
        shelf: Shelf | None = None,
    ):
        found = library(weight.dtype)
        if isinstance(found, str):
            raise RuntimeError(found)
        self._library, self._dtype = found, weight.dtype
        self.outputs, self.inputs = weight.shape
        self._packed = pack([weight], [bias], eight_bits=eight_bits, shelf=shelf)

    @property
    def nbytes(self) -> int:
        return self._packed.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """[R, N] of x [R, K], both of the weight's dtype."""
        assert x.dtype is self._dtype and x.shape[1:] == (self.inputs,)
        x, out = x.contiguous(), x.new_empty(x.shape[0], self.outputs)
        for start in range(0, len(x), ROWS):
            self._part(x[start : start + ROWS], out[start : start + ROWS])
        return out

    def _part(self, x: Tensor, out: Tensor) -> None:
        own, threads = ctypes.byref(self._packed.product), ctypes.c_int64(native.threads())
        rows = ctypes.c_int64(len(x))
        wanted = self._library.decoder_product_room(own, rows, threads)
        room = torch.empty(wanted + LINE, dtype=BYTE)  # of this call: threads may call at once
        self._library.decoder_product(
            own,
            ctypes.c_void_p(x.data_ptr()),
            rows,
            ctypes.c_int64(self.inputs),
            ctypes.c_void_p(out.data_ptr()),
            ctypes.c_int64(self.outputs),
            threads,
            ctypes.c_void_p(aligned(room)),
        )

"""A decoder layer as C reads it: its packed weights, norms and sizes."""

from __future__ import annotations

import ctypes

from torch import Tensor, nn

from mindsd import native

from .decoder_parts import Parts
from .decoder_product import Packed, Product, pack
from .decoder_shelf import Shelf


class Heads(ctypes.Structure):
    """The attention of a layer, as C reads it."""

    _fields_ = [
        ("heads", ctypes.c_int64),
        ("key_heads", ctypes.c_int64),
        ("dim", ctypes.c_int64),
        ("rotates", ctypes.c_int64),
        ("scale", ctypes.c_float),
        ("query_epsilon", ctypes.c_float),
        ("key_epsilon", ctypes.c_float),
        ("query_norm", ctypes.c_void_p),
        ("key_norm", ctypes.c_void_p),
    ]


class LayerFields(ctypes.Structure):
    """A layer, as C reads it."""

    _fields_ = [
        ("qkv", Product),
        ("out", Product),
        ("gates", Product),
        ("down", Product),
        ("heads", Heads),
        ("norm", ctypes.c_void_p),
        ("second_norm", ctypes.c_void_p),
        ("epsilon", ctypes.c_float),
        ("second_epsilon", ctypes.c_float),
        ("width", ctypes.c_int64),
        ("dtype", ctypes.c_int64),
    ]


def packed_parts(
    parts: Parts, eight_bits: bool, shelf: Shelf
) -> tuple[Packed, Packed, Packed, Packed]:
    q, k, v, o, gate, up, down = parts.linears

    def packed(*linears: nn.Linear, by_turns: bool = False) -> Packed:
        biases = [own.bias for own in linears]
        weights = [own.weight for own in linears]
        return pack(weights, biases, eight_bits=eight_bits, by_turns=by_turns, shelf=shelf)

    return packed(q, k, v), packed(o), packed(gate, up, by_turns=True), packed(down)


def float_norm(norm: tuple[Tensor, float] | None) -> tuple[Tensor, float]:
    assert norm is not None
    return norm[0].detach().float().contiguous(), norm[1]


def layer_fields(
    parts: Parts, packed: tuple[Packed, ...], norms: list[tuple[Tensor, float]]
) -> LayerFields:
    (first, epsilon), (second, second_epsilon), *of_heads = norms
    (query, query_epsilon), (key, key_epsilon) = of_heads or [(None, 0.0), (None, 0.0)]
    heads = Heads(
        parts.heads,
        parts.key_heads,
        parts.dim,
        parts.rotates,
        parts.scale,
        query_epsilon,
        key_epsilon,
        native.address(query),
        native.address(key),
    )
    products = [own.product for own in packed]
    return LayerFields(
        *products,
        heads,
        native.address(first),
        native.address(second),
        epsilon,
        second_epsilon,
        first.numel(),
        products[0].given,
    )

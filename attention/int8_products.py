"""A linear layer and a convolution in 8 bits, by oneDNN's own products of torch.

    linear       each row of the input by its own greatest number, in 127 levels on either side of
                 zero (as W8A8 by token, arXiv:2211.10438); so are convolutions of single pixels
    convolution  each image by its least and greatest number, 0 to 255: rows of a window mix

A weight is rounded once, each output by its own greatest number. So an image is rounded alike
whatever others it is computed with. Sums are of whole numbers and exact.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mindsd.prepack import state

from .decoder_product import rounded
from .int8_rounding import ZERO, round_images, round_rows, scale_rows

ROWS = 64  # the weight's order is chosen for so many
FEW = 32  # rows or pixels of one image: below, the layer's own product
SEEN = 64  # numbers of a tensor that are looked at, to see that it is still the same


class Sample:
    """A few numbers of a dense tensor, by which a change in its place is seen.

    Torch counts the changes of a tensor, but not those through its `.data` (which merging an
    adapter makes), and none of an inference tensor.
    """

    def __init__(self, tensor: Tensor):
        count, width = min(SEEN, tensor.numel()), math.prod(tensor.shape[1:])
        step = max(tensor.numel() // SEEN, 1)
        while math.gcd(step, width) > 1:  # else all would lie in few columns
            step -= 1
        with torch.no_grad():
            self._view = tensor.detach().as_strided((count,), (step,))
            self._kept = self._view.clone()

    def same(self) -> bool:
        return torch.equal(self._view, self._kept)


@dataclass
class Last:
    """The input that was rounded last, which a query, a key and a value share."""

    _kept: tuple[Any, Sample, bool, tuple[Tensor, Tensor]] | None = field(default=None)

    def rounded(self, x: Tensor, pixels: bool, rows: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """What `round_rows` gives for the rows of `x`, which may be its pixels."""
        kept = self._kept
        if kept is not None and kept[0]() is x and kept[2] is pixels and kept[1].same():
            return kept[3]
        dense = rows()
        found = round_rows(dense)
        if x.is_contiguous():
            self._kept = weakref.ref(x, self._forget), Sample(x), pixels, found
        return found

    def _forget(self, gone: Any) -> None:
        kept = self._kept
        if kept is not None and kept[0] is gone:
            self._kept = None


class Rounded:
    """In the place of one layer's forward.

    Args:
        module: an `nn.Linear` or `nn.Conv2d` that `misfit` of int8_layers.py lets pass.
        last: shared by the layers of a model.
    """

    def __init__(self, module: Any, last: Last):
        self._module, self._weight, self._last = module, module.weight, last
        self._image = isinstance(module, nn.Conv2d)
        self._single = self._image and _of_pixels(module)
        with torch.inference_mode(False), torch.no_grad():  # what is made now outlives that mode
            _leave_file(module.weight)
            weight = module.weight.detach()
            levels, self._scale = rounded(weight.flatten(1))
            self._packed = self._pack(levels.view(weight.shape))
            self._zero = torch.zeros(len(weight), dtype=torch.int32)
            self._seen = Sample(weight)
        self._state = state(module.weight)

    def __call__(self, original: Callable[..., Tensor], input: Tensor) -> Tensor:
        return self.run(input) if self._takes(input) else original(input)

    def run(self, input: Tensor) -> Tensor:
        """The layer's product in 8 bits: input [..., in] or [images, in, height, width]."""
        if not self._image:
            found = self._rows(input, lambda: input.reshape(-1, input.shape[-1]).contiguous())
            return found.view(*input.shape[:-1], -1)
        x = input.contiguous(memory_format=torch.channels_last)
        if self._single:
            pixels = x.permute(0, 2, 3, 1)
            found = self._rows(input, lambda: pixels.reshape(-1, pixels.shape[-1]))
            return found.view(*pixels.shape[:-1], -1).permute(0, 3, 1, 2)
        return self._windows(x)

    def _takes(self, input: Tensor) -> bool:
        """Whether it is inference on an input that is worth it, and the weight is what it was."""
        weight, image = self._weight, self._image
        if input.dtype is not weight.dtype or not input.is_cpu or input.layout != torch.strided:
            return False
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return False
        if input.dim() != 4 if image else input.dim() < 2:
            return False
        each = input.shape[2:] if image else input.shape[1:-1] or input.shape[:1]
        wide = input.shape[1 if image else -1] == weight.shape[1]
        if not wide or each.numel() < FEW or not input.numel():
            return False
        same = self._module.weight is weight and state(weight) == self._state
        return same and self._seen.same()

    def _pack(self, levels: Tensor) -> Tensor:
        if not self._image or self._single:
            return torch.ops.onednn.qlinear_prepack(levels.flatten(1), [ROWS, levels.shape[1]])
        shape = self._shape()
        return torch.ops.onednn.qconv_prepack(levels, self._scale, 1.0, 1, *shape, None)

    def _shape(self) -> tuple[Any, ...]:
        own = self._module
        return own.stride, own.padding, own.dilation, own.groups

    def _rows(self, x: Tensor, rows: Callable[[], Tensor]) -> Tensor:
        levels, scale = self._last.rounded(x, self._single, rows)
        weight = self._packed, self._scale, self._zero
        product = torch.ops.onednn.qlinear_pointwise
        found = product(levels, 1.0, ZERO, *weight, None, 1.0, 0, x.dtype, "none", [], "")
        return scale_rows(found, scale, self._bias())

    def _windows(self, x: Tensor) -> Tensor:
        levels, scales, zeros = round_images(x)
        after = self._bias(), *self._shape(), 1.0, 0, x.dtype, "none", [], ""
        product, weight = torch.ops.onednn.qconv_pointwise, (self._packed, self._scale, self._zero)
        found = [
            product(levels[i : i + 1], scales[i], zeros[i], *weight, *after) for i in range(len(x))
        ]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _bias(self) -> Tensor | None:
        bias = self._module.bias
        return None if bias is None else bias.detach().float()


def _leave_file(weight: Tensor) -> None:
    """A copy of what lies in a file's mapping: `fuse_cpu` would make it later, and it is noticed
    if a weight lies elsewhere."""
    if not weight.is_inference() and weight.untyped_storage().nbytes() > weight.nbytes:
        weight.data = weight.data.clone()


def _of_pixels(module: nn.Conv2d) -> bool:
    """Whether a convolution is a linear layer of each pixel."""
    sizes = module.kernel_size, module.stride, module.padding
    return sizes == ((1, 1), (1, 1), (0, 0))

"""Convolutions whose weights lie as oneDNN reads them fastest, and whose images lie channels last.

Plainly, each call lays the weight out anew: as long as the product itself takes where images are
small and channels many. And bfloat16 products of images that lie channels first take up to four
times as long. Here an input that lies otherwise is laid channels last, the output lies so, and what
stands between two convolutions keeps it. On two cores of a Xeon with AMX, bfloat16, 3 x 3, two
images, channels last both (ms, plain against prepacked; benchmarks/cpu_diffusion.py shows models):

    320 channels at 64 x 64    640 at 32 x 32    1280 at 16 x 16    1280 at 8 x 8
    4.6 / 4.6                  6.0 / 5.0         10.9 / 7.7         6.2 / 3.3

A convolution of single pixels is a linear layer of them, and is laid out as one: as a convolution,
packed before a size is known, it may be laid out in other blocks than its product then wants, and
anew in every call (1280 channels at 16 x 16, an EPYC with AVX512, bfloat16: 42.7 ms, and 0.9 so).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindsd.prepack import ROWS, After, Kind, packable, run_linear


def can_prepack_conv(module: nn.Module) -> bool:
    """Whether it is a plain convolution of images on a CPU, in a dtype that oneDNN multiplies."""
    if type(module) is not nn.Conv2d or module.padding_mode != "zeros" or _of_pixels(module):
        return False
    return not isinstance(module.padding, str) and packable(module)


def _pack(module: nn.Conv2d) -> Tensor:
    shape = module.padding, module.stride, module.dilation, module.groups
    return torch.ops.mkldnn._reorder_convolution_weight(module.weight.detach(), *shape)


def _run(module: nn.Conv2d, input: Tensor, packed: Tensor, after: After) -> Tensor:
    shape = module.padding, module.stride, module.dilation, module.groups
    input = input.contiguous(memory_format=torch.channels_last)
    operator = torch.ops.mkldnn._convolution_pointwise
    if after.add is not None:
        add = after.add.contiguous(memory_format=torch.channels_last)
        given = input, add, packed, module.bias
        return operator.binary(*given, *shape, "add", None, None, [], None)
    return operator(input, packed, module.bias, *shape, after.activation, [], after.algorithm)


def _plain(module: nn.Conv2d, input: Tensor, weight: Tensor) -> Tensor:
    padding = cast(tuple[int, ...], module.padding)  # words are not taken
    more = padding, module.dilation, module.groups
    return F.conv2d(input, weight, module.bias, module.stride, *more)


def _of_pixels(module: nn.Conv2d) -> bool:
    sizes = module.kernel_size, module.stride, module.groups
    return sizes == ((1, 1), (1, 1), 1) and module.padding == (0, 0)


def can_prepack_pixels(module: nn.Module) -> bool:
    """The same for one that multiplies each pixel by itself."""
    return type(module) is nn.Conv2d and _of_pixels(module) and packable(module)


def _pack_pixels(module: nn.Conv2d) -> Tensor:
    weight = module.weight.detach().flatten(1).contiguous()
    return torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)


def _run_pixels(module: nn.Conv2d, input: Tensor, packed: Tensor, after: After) -> Tensor:
    input = input.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    if after.add is not None:
        add = after.add.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        after = After(add=add)
    return run_linear(module, input, packed, after).permute(0, 3, 1, 2)


PIXELS = Kind(can_prepack_pixels, _pack_pixels, _run_pixels, _plain, dimensions=4)
CONV = Kind(can_prepack_conv, _pack, _run, _plain, dimensions=4)

"""Patch embeddings as one product.

Vision towers cut a picture into patches by a convolution whose kernel is as large as its stride.
Where the patches come one by one already (Qwen-VL: [patches, channels, time, height, width], each
exactly a kernel), torch still runs its slow path for convolutions in three dimensions, while it is
a plain product of rows. Results differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mindsd.wrap import Wrap, wrap


class Patches:
    """The patch embeddings of a model as products; usable until `remove`.

    Attributes:
        names: of the convolutions.
    """

    def __init__(self, model: nn.Module):
        self.names: list[str] = []
        self._wraps: list[Wrap] = []
        for name, module in model.named_modules():
            if is_patch_embedding(module):
                self.names.append(name)
                self._wraps.append(wrap(module, "forward", _product(module)))

    def remove(self) -> None:
        """The convolutions as they were; doing it twice does nothing."""
        for own in self._wraps:
            own.remove()


def is_patch_embedding(module: Any) -> bool:
    """Whether it is a plain convolution in three dimensions whose kernel is its stride."""
    return (
        type(module) is nn.Conv3d
        and tuple(module.kernel_size) == tuple(module.stride)
        and set(module.padding) == {0}
        and set(module.dilation) == {1}
        and module.groups == 1
    )


def _product(module: Any) -> Callable[..., Tensor]:
    def forward(original: Callable[..., Tensor], input: Tensor) -> Tensor:
        if input.dim() != 5 or tuple(input.shape[2:]) != tuple(module.kernel_size):
            return original(input)
        rows = F.linear(input.flatten(1), module.weight.flatten(1), module.bias)
        return rows[:, :, None, None, None]

    return forward

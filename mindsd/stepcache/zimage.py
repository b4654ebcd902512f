"""The split of Z-Image, whose rows come as lists and are padded to their neighbours' length.

A row's image tokens lie before its text and the padding, and their number is its own whatever rows
run beside it. What the blocks add to them alone is kept:

    row      [image tokens | text tokens | padding]
    kept     |------------
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from mindsd.batching.stack import Listed
from mindsd.stepcache.dit import DiTSplit
from mindsd.stepcache.split import Running


class ZImageSplit(DiTSplit):
    """Splits a `ZImageTransformer2DModel`."""

    def tokens(self, named: dict[str, Any]) -> int:
        """Those of one image: patches of f frames, p by p, of [channels, frames, height, width].

        Raises:
            RequestError: the images differ in size, or each row has several.
        """
        images = named["x"]
        if not all(isinstance(image, Tensor) for image in images):
            raise self.refused("its rows have several images each")
        sizes = {tuple(image.shape[1:]) for image in images}
        if len(sizes) > 1:
            raise self.refused(f"its rows differ in size: {sorted(sizes)}")
        patch = named.get("f_patch_size", 1) * named.get("patch_size", 2) ** 2
        return math.prod(sizes.pop()) // patch

    def _in(self, running: Running, run: Callable[[], Any]) -> Any:
        return _listed(super()._in(running, run))


def _listed(result: Any) -> Any:
    """The result with its rows marked as such."""
    return pytree.tree_map(
        lambda leaf: Listed(leaf) if isinstance(leaf, list) else leaf,
        result,
        is_leaf=lambda node: isinstance(node, list),
    )

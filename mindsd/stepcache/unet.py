"""The UNet split: everything below the last layer of the last up block is deep.

    conv_in --------------------- skip ---------------------+
       |                                                    v
       +-> down blocks -> mid -> up blocks -> [deep value] + -> last resnet (and attention) -> out
           `------------- deep -------------'

As in DeepCache (arXiv:2312.00858) with its branch 0, but the deep value is the one tensor that is
kept, [channels of the last seam, height, width] for each row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mindsd.errors import ModelError
from mindsd.stepcache.split import Pass, Split, Stop

SKETCH = 8  # side of the pooled feature that a probe keeps


class UNetSplit(Split):
    """Splits a `UNet2DConditionModel` by wrapping its blocks.

    Raises:
        ModelError: it has fewer than two up blocks, so there is no seam.
    """

    def __init__(self, unet: Any):
        if len(unet.up_blocks) < 2:
            raise ModelError("a UNet with fewer than two up blocks cannot be cached between steps")
        super().__init__(unet)
        last: Any = unet.up_blocks[-1]
        self._channels = last.resnets[-1].in_channels - unet.config["block_out_channels"][0]
        self.put(unet.down_blocks[0].resnets[0], self._probe)
        for place, block in enumerate(unet.down_blocks):
            self.put(block, self._down(len(block.resnets), place == 0, block))
        if unet.mid_block is not None:
            self.put(unet.mid_block, self._mid)
        for block in unet.up_blocks[:-1]:
            self.put(block, self._pass_value)
        for resnet in last.resnets[:-1]:
            self.put(resnet, self._pass_value)
        for attention in list(getattr(last, "attentions", ()))[:-1]:
            several = "return_dict" in inspect.signature(attention.forward).parameters
            self.put(attention, self._pass_tuple if several else self._pass_value)
        self.put(last.resnets[-1], self._keep)

    def _probe(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if self.now.mode is Pass.PROBE:
            self.now.value = torch.nn.functional.adaptive_avg_pool2d(result, SKETCH)
            raise Stop
        return result

    def _down(self, resnets: int, outermost: bool, block: Any) -> Callable[..., Any]:
        halved = block.downsamplers is not None
        channels = block.resnets[-1].out_channels

        def down(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if self.now.mode is not Pass.FORECAST:
                return original(*args, **kwargs)
            x: Tensor = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            # Skips that only deep layers read: shapes that ControlNet's residuals can be added to.
            seen = [x[:, :1]] * resnets if outermost else [x.new_zeros(1)] * resnets
            # A T2I-Adapter's features are added in place: to nothing that is read.
            sides = [(side + 1) // 2 if halved else side for side in x.shape[2:]]
            unread = x.new_zeros(len(x), channels, *sides)
            return unread, (*seen, *[x.new_zeros(1)] * halved)

        return down

    def _mid(self, original: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.now.mode is Pass.FORECAST:
            return x.new_zeros(1)
        return original(x, *args, **kwargs)

    def _pass_value(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.now.value if self.now.mode is Pass.FORECAST else original(*args, **kwargs)

    def _pass_tuple(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return (self.now.value,) if self.now.mode is Pass.FORECAST else original(*args, **kwargs)

    def _keep(self, original: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.now.mode is Pass.KEEP:
            self.now.kept.append(x[:, : self._channels])
        return original(x, *args, **kwargs)

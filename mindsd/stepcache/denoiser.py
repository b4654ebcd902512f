"""A denoiser made ready to do less: what can be done is found by looking at its parts."""

from __future__ import annotations

import inspect
from typing import Any

from diffusers import UNet2DConditionModel

from mindsd.config import Acceleration
from mindsd.errors import ModelError, RequestError
from mindsd.stepcache.cache import CachedDenoiser
from mindsd.stepcache.dit import DiTSplit
from mindsd.stepcache.plan import Kind
from mindsd.stepcache.split import Split
from mindsd.stepcache.unet import UNetSplit
from mindsd.tokenmerge.diffusion import MergedDenoiser


class Denoiser:
    """The wraps of one denoiser that lie below the engine's; those that cannot be are left out.

    Attributes:
        why_not_cached: why its steps cannot be cached; None when they can.
        why_not_merged: why its tokens cannot be merged; None when they can.
    """

    def __init__(self, module: Any):
        self.module = module
        self._merged = MergedDenoiser(module)
        self.why_not_merged = (
            None if self._merged.blocks else "has no self-attention of image tokens"
        )
        self._cached: CachedDenoiser | None = None
        self.why_not_cached: str | None = None
        try:
            self._cached = CachedDenoiser(module, split(module))
        except ModelError as error:
            self.why_not_cached = str(error)

    def check(self, acceleration: Acceleration) -> None:
        """Refuse what it cannot do.

        Raises:
            RequestError: names it.
        """
        kind = type(self.module).__name__
        cache = acceleration.step_cache
        if cache and Kind.SHALLOW in cache.uses and self.why_not_cached is not None:
            raise RequestError(
                f"no step cache for {kind} with shallow steps: {self.why_not_cached}; "
                "skip steps instead (skip:2 or tolerance:0.02)"
            )
        if acceleration.token_merge is not None and self.why_not_merged is not None:
            raise RequestError(
                f"no token merging for {kind}: it {self.why_not_merged}; leave it out"
            )

    def remove(self) -> None:
        """Take everything off again."""
        if self._cached is not None:
            self._cached.remove()
        self._merged.remove()


def split(module: Any) -> Split:
    """The denoiser taken apart.

    Raises:
        ModelError: it has no parts that are known.
    """
    if isinstance(module, UNet2DConditionModel):
        return UNetSplit(module)
    first = next(iter(inspect.signature(module.forward).parameters.values()))
    if "list" in str(first.annotation).lower():  # rows of many lengths, padded to their neighbours'
        raise ModelError(f"{type(module).__name__} takes its images as a list")
    return DiTSplit(module)

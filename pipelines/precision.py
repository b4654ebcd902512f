"""Autoencoders that pipelines move to float32 and back while they draw.

SDXL's autoencoder overflows in float16, so its pipelines convert it in place round each use. Done
to a shared module, that would change what other requests are computing with. Here both forms exist
for good, and each request has a stand-in that only chooses between them:

    pipeline: vae.to(dtype=float32)    the stand-in now is the float32 copy
              vae.decode(latents)      batched with all others that decode in float32
              vae.to(dtype=float16)    the stand-in is the model's own again

The numbers are those of plain diffusers: float16 and bfloat16 are exact in float32.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers import DiffusionPipeline

from mindsd.pipelines.solo import words
from mindsd.wrap import wraps_of

MOVED = "force_upcast"  # the autoencoder's own word for it; what moves it asks for this


def upcast_copy(pipe: DiffusionPipeline) -> torch.nn.Module | None:
    """The autoencoder in float32, where it is in less and this pipeline class may move it."""
    vae: Any = pipe.components.get("vae")
    if not getattr(getattr(vae, "config", None), MOVED, False) or vae.dtype == torch.float32:
        return None
    return _unwrapped_copy(vae).float() if _moves(type(pipe)) else None


def _unwrapped_copy(module: torch.nn.Module) -> torch.nn.Module:
    """A deep copy; wraps are not copied, for they would lead to the original's own methods."""
    copied = copy.deepcopy(module)
    for part in copied.modules():
        for name in [own.method for own in wraps_of(part)]:
            vars(part).pop(name, None)
    return copied


def _moves(kind: type) -> bool:
    """Whether a pipeline class, or one that shares its components, moves its autoencoder.

    An image-to-image form is made from the text-to-image one: both have `upcast_vae` or none has.
    """
    return hasattr(kind, "upcast_vae") or MOVED in words(kind)


class Precisions:
    """Stands for an autoencoder in one request: `to` chooses a form, everything else is the form's.

    Args:
        own: the model's autoencoder, in float16 or bfloat16.
        upcast: the same in float32.
    """

    def __init__(self, own: Any, upcast: Any):
        self._forms = {own.dtype: own, torch.float32: upcast}
        self._own = self._now = own

    def to(self, *args: Any, **kwargs: Any) -> Precisions:
        """Choose the form of this dtype.

        Raises:
            NotImplementedError: it is asked to go anywhere else.
        """
        asked = [*args, *kwargs.values()]
        if len(asked) != 1 or asked[0] not in self._forms:
            raise NotImplementedError(f"a request's autoencoder cannot move to {asked}")
        self._now = self._forms[asked[0]]
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now, name)

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What it stands for: pipelines ask which kind of autoencoder they have."""
        return type(self._own)

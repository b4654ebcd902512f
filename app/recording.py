"""How a loaded model's pictures are made, for their records. Imports torch and diffusers."""

from __future__ import annotations

from collections.abc import Mapping

import diffusers
import torch

import mindsd
from mindsd.pipelines.model import LoadedModel
from mindsd.pipelines.parameters import ImageParameters

from .picture_record import Record
from .progress import Place

VERSIONS = {
    "mindsd": mindsd.__version__,
    "torch": torch.__version__,
    "diffusers": diffusers.__version__,
}


def place_of(model: LoadedModel) -> Place:
    """Where it is."""
    return Place(model.name, model.device.kind, str(model.pipe.dtype).removeprefix("torch."))


def record_of(
    model: LoadedModel,
    whole: ImageParameters,
    pictures: Mapping[str, str],
    name: str | None = None,
) -> Record:
    """The record of a picture with these parameters.

    Args:
        pictures: hashes of the given ones.
        name: what the model is called, where that is not its own name.
    """
    place = place_of(model)
    return Record(
        whole,
        place.model if name is None else name,
        place.device,
        place.dtype,
        VERSIONS,
        model.attention,
        model.fingerprint,
        pictures,
        layers=model.layers,
        vae=model.vae,
        vae_fingerprint=model.vae_fingerprint,
    )

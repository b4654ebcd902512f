"""Which model is this? A short hash of its denoisers, the same in every dtype and on every device.

Of every parameter its name, its shape and the signs of some of its values count. Signs outlast any
rounding, also to zero; values rounded to bfloat16 would not do, for a model loaded in float16 was
rounded before, and one value in twenty then falls on the other side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from diffusers import DiffusionPipeline

from mindsd.errors import RequestError
from mindsd.packed_weight import PackedWeight
from mindsd.pipelines.modules import find_denoisers

SAMPLED = 1024  # values of a parameter at most, evenly spaced
DIGITS = 16  # hexadecimal: 64 bits


def fingerprint(pipe: DiffusionPipeline) -> str:
    """16 hexadecimal digits; a LoRA on the denoiser makes another model of it.

    Raises:
        RequestError: the pipeline has no denoiser, or its weights are not in memory.
    """
    denoisers = find_denoisers(pipe.components)
    if not denoisers:
        kind = type(pipe).__name__
        raise RequestError(f"{kind} has no denoiser of diffusers' kind; profiles are for those")
    return fingerprint_of(denoisers)


def fingerprint_of(modules: Mapping[str, torch.nn.Module]) -> str:
    """The same of any modules by their names.

    Raises:
        RequestError: their weights are not in memory.
    """
    found = hashlib.sha256()
    for name, module in sorted(modules.items()):
        parameters = dict(sorted(module.named_parameters()))
        if away := [key for key, value in parameters.items() if value.is_meta]:
            raise RequestError(
                f"{len(away)} weights of {name} are not in memory (the first is {away[0]}), so the "
                "model cannot be told from others; load it without offloading to disk"
            )
        shapes = [[key, list(value.shape)] for key, value in parameters.items()]
        found.update(json.dumps([name, type(module).__name__, shapes]).encode())
        found.update(_signs(list(parameters.values())))
    return found.hexdigest()[:DIGITS]


@torch.no_grad()
def _signs(parameters: list[torch.nn.Parameter]) -> bytes:
    """One byte for each sampled value; a packed weight stays packed."""
    plain = (own.store.plain() if isinstance(own, PackedWeight) else own for own in parameters)
    sampled = [
        value.reshape(-1)[:: max(1, value.numel() // SAMPLED)][:SAMPLED].float().signbit()
        for value in plain
    ]
    return torch.cat([signs.cpu() for signs in sampled]).numpy().tobytes()

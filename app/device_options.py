"""--device, --dtype and --layers, which are the same in every command that runs a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from mindsd.errors import RequestError

# torch is not imported for a name; the tests hold these against mindsd.device and mindsd.attention
DEVICES = ("auto", "npu", "cuda", "cpu")
DTYPES = ("auto", "float32", "float16", "bfloat16")
LAYERS = ("auto", "off", "w8a8")
LANGUAGE_LAYERS = (*LAYERS, "int8")
IMAGE_LAYERS = (*LAYERS, "int8", "compiled", "fp8")
SERVED_LAYERS = (*LANGUAGE_LAYERS, "compiled", "fp8")


def check_words(device: str, dtype: str, layers: str, words: Sequence[str]) -> None:
    """Refuse a word that nobody knows in the loaders' own sentence, before torch is imported.

    Args:
        words: that `layers` may be for this kind of model.

    Raises:
        RequestError: one is unknown; whether this machine can do it is seen by the loaders.
    """
    for name, said, known in (("device", device, DEVICES), ("dtype", dtype, DTYPES)):
        if said not in known:
            raise RequestError(f"unknown {name} {said!r}; choose {', '.join(known)}")
    if layers not in words and layers in IMAGE_LAYERS and layers not in LANGUAGE_LAYERS:
        raise RequestError(f"layers={layers!r} is for models that draw; choose {', '.join(words)}")
    if layers not in words:
        raise RequestError(f"unknown layers {layers!r}; choose {', '.join(words)}")


def _devices() -> list[str]:
    return list(DEVICES)


def _dtypes() -> list[str]:
    return list(DTYPES)


def _layers() -> list[str]:
    return list(IMAGE_LAYERS)


def _served_layers() -> list[str]:
    return list(SERVED_LAYERS)


def _language_layers() -> list[str]:
    return list(LANGUAGE_LAYERS)


Device = Annotated[str, typer.Option(help="auto, npu, cuda or cpu.", autocompletion=_devices)]
Dtype = Annotated[
    str, typer.Option(help="auto, float32, float16 or bfloat16.", autocompletion=_dtypes)
]
Layers = Annotated[
    str,
    typer.Option(
        help="auto: fused operators and kernels beside attention; off: the model's own; "
        "w8a8 and int8: large layers in 8 bits, on an NPU and on a CPU; compiled: blocks by "
        "torch.compile, on a GPU or CPU; fp8: compiled in 8-bit floating point, on a GPU.",
        autocompletion=_layers,
    ),
]
LanguageLayers = Annotated[
    str,
    typer.Option(
        "--layers",
        help="auto, off, w8a8: as of generate; int8: weights alone in 8 bits, on a CPU.",
        autocompletion=_language_layers,
    ),
]
ServedLayers = Annotated[
    str,
    typer.Option(
        "--layers",
        help="As of generate, for every model that can take it: the log says once which cannot, "
        "and runs them as with auto.",
        autocompletion=_served_layers,
    ),
]

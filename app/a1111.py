"""The text that Automatic1111 keeps in its pictures, and many tools read.

    a red circle
    Negative prompt: blur
    Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 7, Size: 128x128, Model: tiny-sd, ...

Values that hold a comma, a colon or a line break stand as JSON strings. The form cannot say where a
prompt ends that itself has a line "Negative prompt:"; our own chunk (png.py) can.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from mindsd.pipelines.parameters import ImageParameters, parse_size

from .samplers import NAMES, sampler_of, scheduler_of

NEGATIVE = "Negative prompt:"
PAIR = re.compile(r'\s*([^:,"]+):\s*("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')
FEWEST = 3  # pairs that make a last line one of settings and not of prose
READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "Steps": ("steps", int),
    "CFG scale": ("guidance", float),
    "Seed": ("seed", int),
    "Denoising strength": ("strength", float),
}


def write_text(parameters: ImageParameters, model: str, version: str) -> str:
    """The parameters of one picture in Automatic1111's form; what is None is left out."""
    size = f"{parameters.width}x{parameters.height}" if parameters.width else None
    settings = {
        "Steps": parameters.steps,
        "Sampler": parameters.scheduler and sampler_of(parameters.scheduler),
        "CFG scale": parameters.guidance,
        "Seed": parameters.seed,
        "Size": size,
        "Denoising strength": parameters.strength,
        "Model": model,
        "Version": version,
    }
    known = {name: value for name, value in settings.items() if value is not None}
    lines = [parameters.prompt]
    if parameters.negative_prompt:
        lines.append(f"{NEGATIVE} {parameters.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quote(value)}" for name, value in known.items()))
    return "\n".join(lines)


def read_text(text: str) -> tuple[ImageParameters, str]:
    """The parameters and the model's name ("" where it is not said) from such a text.

    Raises:
        ValueError: a setting is not the number it should be (RequestError is one too).
    """
    *words, last = text.rstrip().split("\n")
    settings = {name.strip(): _unquote(value) for name, value in PAIR.findall(last)}
    if len(settings) < FEWEST:
        words, settings = [*words, last], {}
    prompt, _, negative = "\n".join(["", *words]).partition(f"\n{NEGATIVE}")
    found = {
        field: read(settings[name]) for name, (field, read) in READERS.items() if name in settings
    }
    if "Size" in settings:
        found["width"], found["height"] = parse_size(settings["Size"])
    scheduler = scheduler_of(settings.get("Sampler", ""))
    if scheduler in NAMES.values() or scheduler.endswith("Scheduler"):
        found["scheduler"] = scheduler
    parameters = ImageParameters(prompt[1:], negative_prompt=negative.strip() or None, **found)
    return parameters, settings.get("Model", "")


def _quote(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    special = any(sign in text for sign in ",:\n")
    return json.dumps(text, ensure_ascii=False) if special else text


def _unquote(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text.strip()

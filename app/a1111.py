"""The text that Automatic1111 keeps in its pictures, and many tools read.

    a red circle
    Negative prompt: blur
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 7, Size: 128x128, ...

Older pictures of theirs say "Sampler: DPM++ 2M Karras". Values that hold a comma, a colon or a line
break stand as JSON strings. The form cannot say where a prompt ends that itself has a line
"Negative prompt:"; our own text (picture_record.py) can.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from mindsd.pipelines.lora_tags import read_lora_tags
from mindsd.pipelines.parameters import ImageParameters, parse_size
from mindsd.pipelines.prompt_syntax import wants_weighting

from .samplers import NAMES, sampler_of, scheduler_of

NEGATIVE = "Negative prompt:"
# What stands between two commas outside of quotes; possessive, so that no text makes it slow.
PIECE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*+(?:"|\\?$))++')
CLASS = re.compile(r"\w+Scheduler(\(.*\))?")
FEWEST = 3  # pairs that make a last line one of settings and not of prose
SAMPLER = ("Sampler", "Schedule type")
READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "Steps": ("steps", int),
    "CFG scale": ("guidance", float),
    "Seed": ("seed", int),
    "Denoising strength": ("strength", float),
}


def write_text(parameters: ImageParameters, model: str, version: str, vae: str = "") -> str:
    """The parameters of one picture in Automatic1111's form; what is None is left out."""
    size = f"{parameters.width}x{parameters.height}" if parameters.width else None
    settings = {
        "Steps": parameters.steps,
        **dict(zip(SAMPLER, sampler_of(parameters.scheduler or ""), strict=True)),
        "CFG scale": parameters.guidance,
        "Seed": parameters.seed,
        "Size": size,
        "Denoising strength": parameters.strength,
        "Model": model,
        "VAE": vae,
        "Version": version,
    }
    known = {name: value for name, value in settings.items() if value not in (None, "")}
    tags = [f"<lora:{name}:{weight:g}>" for name, weight in parameters.loras]
    lines = [" ".join([parameters.prompt, *tags])]
    if parameters.negative_prompt:
        lines.append(f"{NEGATIVE} {parameters.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quote(value)}" for name, value in known.items()))
    return "\n".join(lines)


def read_text(text: str) -> tuple[ImageParameters, str, dict[str, str]]:
    """The parameters, the model's name ("" where it is not said), and all other settings.

    Raises:
        ValueError: a setting is not the number it should be (RequestError is one too).
    """
    *words, last = text.rstrip().split("\n")
    settings = dict(_pairs(last))
    if len(settings) < FEWEST:
        words, settings = [*words, last], {}
    prompt, _, negative = "\n".join(["", *words]).partition(f"\n{NEGATIVE}")
    said, loras = read_lora_tags(prompt[1:])
    found: dict[str, Any] = {"negative_prompt": negative.strip() or None, "loras": loras}
    found["weighted"] = wants_weighting(said) or wants_weighting(negative)
    parameters = ImageParameters(said, **found | _take(settings))
    return parameters, settings.pop("Model", ""), settings


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    for piece in PIECE.findall(line):
        name, colon, value = piece.partition(":")
        if colon and name.strip() and '"' not in name:
            yield name.strip(), _unquote(value.strip())


def _take(settings: dict[str, str]) -> dict[str, Any]:
    """The fields of the parameters that settings stand for; these are taken out."""
    found: dict[str, Any] = {}
    second = any(name.startswith("Hires ") for name in settings)  # whose strength it then is
    for name, (field, read) in READERS.items():
        if name in settings and not (second and field == "strength"):
            found[field] = read(settings.pop(name))
    if "Size" in settings:
        found["width"], found["height"] = parse_size(settings.pop("Size"))
    scheduler = scheduler_of(settings.get("Sampler", ""), settings.get("Schedule type", ""))
    if scheduler in NAMES or CLASS.fullmatch(scheduler):
        found["scheduler"] = scheduler
        for name in SAMPLER:
            settings.pop(name, None)
    return found


def _quote(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    special = any(sign in text for sign in ",:\n")
    return json.dumps(text, ensure_ascii=False) if special else text


def _unquote(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return str(json.loads(text)) if quoted else text

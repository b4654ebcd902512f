"""A record for people: a name and a value for all that it says."""

from __future__ import annotations

import json
from typing import Any

from .picture_record import Record
from .samplers import sampler_of

SHOWN = ("prompt", "negative_prompt", "steps", "guidance", "seed")  # first, in this order
APART = ("width", "height", "scheduler", "acceleration")  # said in other words
EMPTY = ("", "null", "{}", "[]", "false")


def as_lines(record: Record) -> list[tuple[str, str]]:
    """Parameters, then what drew them, then settings of other tools; what is empty is left out."""
    told = record.as_json()
    parameters: dict[str, Any] = told["parameters"]
    size = "{width}x{height}".format(**parameters) if parameters["width"] else ""
    rest = [name for name in parameters if name not in SHOWN and name not in APART]
    lines = {name: parameters[name] for name in SHOWN}
    lines |= {"size": size, "sampler": " ".join(sampler_of(parameters["scheduler"] or "")).strip()}
    lines |= {"scheduler": parameters["scheduler"]}
    lines |= {name: parameters[name] for name in rest} | parameters["acceleration"]
    places = ("model", "fingerprint", "vae", "vae_fingerprint")
    places += ("device", "dtype", "attention", "layers")
    lines |= {name: told[name] for name in places}
    lines |= {f"SHA-256 of {name}": value for name, value in record.pictures.items()}
    lines["versions"] = ", ".join(f"{name} {value}" for name, value in record.versions.items())
    lines |= record.unknown
    return [(name, text) for name, value in lines.items() if (text := _text(value)) not in EMPTY]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

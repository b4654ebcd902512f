"""LoRAs that are named in a prompt, in A1111's form: `a fox <lora:ink:0.8>`.

Faces read them; the Python API leaves prompts as they are.
"""

from __future__ import annotations

import re

from mindsd.errors import RequestError

TAG = re.compile(r"<lora:([^<>]*)>")
WEIGHT = re.compile(r"[+-]?(\d{1,9}(\.\d{0,9})?|\.\d{1,9})", re.ASCII)


def read_lora_tags(prompt: str) -> tuple[str, tuple[tuple[str, float], ...]]:
    """The prompt without its tags, and the LoRAs in them with their weights, the first first.

    A tag without a weight means 1. One that is named several times has its weights added.

    Raises:
        RequestError: a tag has no name, or a weight that is no number.
    """
    found: dict[str, float] = {}
    pieces: list[str] = []
    end = 0
    for tag in TAG.finditer(prompt):
        name, weight = _read(tag[1])
        found[name] = found.get(name, 0.0) + weight
        pieces.append(prompt[end : tag.start()])
        end = tag.end()
    if not found:
        return prompt, ()
    kept = [""]
    for piece in [*pieces, prompt[end:]]:
        if piece[:1].isspace():
            kept[-1] = kept[-1].rstrip()
        kept.append(piece)
    return "".join(kept).strip(), tuple(found.items())


def _read(text: str) -> tuple[str, float]:
    name, *told = (part.strip() for part in text.split(":"))
    if not name:
        raise RequestError(f"<lora:{text}> has no name; write <lora:name:0.8>")
    if len(told) > 1 or (told and "=" in told[0]):
        raise RequestError(
            f"<lora:{text}> gives parts of the model weights of their own, which are not taken; "
            "write <lora:name:0.8>"
        )
    if told and not WEIGHT.fullmatch(told[0]):
        raise RequestError(f"<lora:{text}> has a weight that is no number; write <lora:name:0.8>")
    return name, float(told[0]) if told else 1.0

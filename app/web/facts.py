"""What is known of a picture, in HTML."""

from __future__ import annotations

from html import escape

from ..picture_record import Record
from .image_form import form_of

LONGEST = 600  # characters of a prompt
NAMES = {
    "seed": "Seed",
    "model": "Model",
    "size": "Size",
    "steps": "Steps",
    "guidance": "Guidance",
    "scheduler": "Sampler",
    "strength": "Strength",
}


def facts(name: str, record: Record | None) -> str:
    """A picture's name, prompt and settings."""
    if record is None:
        return _about(name, "<p>Nothing is known of how it was made.</p>")
    form = form_of(record)
    pairs = {NAMES[key]: form[key] for key in NAMES if form[key] not in (None, "")}
    pairs["Speed"] = form["speed"] or record.parameters.acceleration
    if record.vae:
        pairs["VAE"] = record.vae
    if form["loras"]:
        pairs["LoRA"] = ", ".join(f"{own} {weight:g}" for own, weight in form["loras"].items())
    rows = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(_text(value))}</dd></div>"
        for key, value in pairs.items()
    )
    negative = form["negative_prompt"]
    more = f'<p class="facts">Without: {escape(_short(negative))}</p>' if negative else ""
    return _about(name, f"<p>{escape(_short(form['prompt']))}</p>{more}<dl>{rows}</dl>")


def _about(name: str, told: str) -> str:
    title = f'<p class="name">{escape(name)}</p>'
    return f'<section class="about" aria-label="About the picture">{title}{told}</section>'


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

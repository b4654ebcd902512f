"""The image form: from what is typed to the API's own body, and from a picture's record back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import Field, ValidationError

from mindsd.config import name_of
from mindsd.pipelines.parameters import MAX_STEPS

from ..picture_record import Record
from ..samplers import sampler_of
from ..server.complaint import complaint
from ..server.image_bodies import MAX_GUIDANCE, MAX_IMAGES, EditBody
from ..server.refusal import Refusal
from .typed import real, seed, shown, whole

ANY = "-1"
OWN = "auto"  # the model's own
ROUGHS = 12  # rough pictures on the way, more than the API sends
LORAS = 6  # on the form
READERS = {
    "n": partial(whole, "images", least=1, most=MAX_IMAGES),
    "steps": partial(whole, "steps", least=1, most=MAX_STEPS),
    "guidance": partial(real, "guidance", least=0, most=MAX_GUIDANCE),
    "seed": seed,
}
# What a field is called on the page.
LABELS = {
    "n": "images",
    "scheduler": "sampler",
    "negative_prompt": "negative prompt",
    "loras": "LoRA",
}
SIZES = (
    *("auto", "128x128", "256x256", "512x512", "512x768", "768x512", "768x768"),
    *("832x1216", "1024x1024", "1216x832"),
)


class PageBody(EditBody):
    """The API's body, whose pictures on the way are for the page itself."""

    stream: bool | None = True
    partial_images: Annotated[int, Field(ge=0, le=ROUGHS)] | None = ROUGHS


def body_of(values: Mapping[str, Any]) -> PageBody:
    """The body of a form's values, of which those that are left empty are left out.

    Raises:
        Refusal: the first value that is wrong, in one sentence.
    """
    said = {name: value for name, value in values.items() if value not in (None, "", {})}
    if said.get("scheduler") == OWN:
        del said["scheduler"]
    said.setdefault("prompt", "")
    for name, read in READERS.items():
        said[name] = read(said.get(name))
    try:
        return PageBody.model_validate(said)
    except ValidationError as error:
        raise refusal_of_form(error, LABELS) from None


def refusal_of_form(error: ValidationError, labels: Mapping[str, str]) -> Refusal:
    """The first thing that is wrong, without repeating what was typed."""
    where, said = complaint(error.errors(include_url=False), PageBody)
    field = where.partition(".")[0] or "the form"
    return Refusal(400, "invalid_request", f"{labels.get(field, field)}: {said}", field)


def form_of(record: Record) -> dict[str, Any]:
    """The values that ask for the same picture again, by the form's names."""
    own = record.parameters
    size = f"{own.width}x{own.height}" if own.width and own.height else OWN
    return {
        "prompt": own.prompt,
        "negative_prompt": own.negative_prompt or "",
        "model": record.model or None,
        "size": size,
        "steps": shown(own.steps),
        "guidance": shown(own.guidance),
        "seed": str(own.seed),
        "scheduler": " ".join(sampler_of(own.scheduler)).strip() if own.scheduler else OWN,
        "speed": name_of(own.acceleration),
        "n": "1",
        "weighted": own.weighted,
        "strength": own.strength,
        "loras": dict(own.loras),
    }

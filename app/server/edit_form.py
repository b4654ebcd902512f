"""The form of an edit: fields as a JSON body has them, and files.

image        the picture (clients of OpenAI say image[] for a list, of which one is taken)
mask         what is drawn anew of it; without one, all of it
loras[ink]   a field of a field, as those clients write them
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect

from .complaint import complaint
from .image_bodies import MAX_LORAS, EditBody, Weight
from .refusal import GONE, Refusal

FILES = {"image": "image", "image[]": "image", "mask": "mask_image"}
INNER = re.compile(r"(loras)\[([^\[\]]{1,64})\]")
MAX_FIELDS = 48 + MAX_LORAS
MAX_FIELD = 2**16  # bytes


def _form() -> dict[str, Any]:
    """What the API's document says of it."""
    schema = EditBody.model_json_schema()
    fields = schema["properties"]
    fields.pop("loras")
    for own in fields.values():  # a text is never null
        own.pop("default", None)
        if "anyOf" in own:
            own["anyOf"].remove({"type": "null"})
    binary = {"type": "string", "format": "binary"}
    schema["properties"] = {"image": binary, "mask": binary, **fields}
    schema["required"] = ["image", *schema["required"]]
    schema["patternProperties"] = {r"^loras\[.+\]$": TypeAdapter(Weight).json_schema()}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


FORM = _form()


async def read_form(client: Request) -> tuple[EditBody, dict[str, bytes]]:
    """The fields, and the files by the pipelines' names of them.

    Raises:
        Refusal: a field is wrong or said twice, or a file is missing or none.
    """
    if not client.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        said = "an edit is sent as multipart/form-data, with a file named image"
        raise Refusal(400, "invalid_request", said)
    try:
        form = client.form(max_files=4, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD)
        async with form as parts:
            files = {name: await file.read() for name, file in _files(parts)}
            texts = _texts(parts)
    except ClientDisconnect:
        raise replace(GONE) from None
    try:
        body = EditBody.model_validate_strings(texts)
    except ValidationError as error:
        where, said = complaint(error.errors(include_url=False), EditBody)
        raise Refusal(400, "invalid_request", f"{where or 'the form'}: {said}", where) from None
    if "image" not in files:
        raise Refusal(400, "invalid_request", "image: a file is missing", "image")
    return body, files


def _files(form: FormData) -> Iterator[tuple[str, UploadFile]]:
    found: set[str] = set()
    for name, part in form.multi_items():
        if not isinstance(part, UploadFile):
            continue
        if name not in FILES:
            raise Refusal(400, "invalid_request", "only image and mask are files", name[:64])
        if FILES[name] in found:
            raise Refusal(400, "invalid_request", "one image is edited at a time", "image")
        found.add(FILES[name])
        yield FILES[name], part


def _texts(form: FormData) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, part in form.multi_items():
        if not isinstance(part, str):
            continue
        inner = INNER.fullmatch(name)
        table = found if inner is None else found.setdefault(inner[1], {})
        own = name if inner is None else inner[2]
        if name in FILES:
            raise Refusal(400, "invalid_request", f"{name}: it must be a file", name)
        if not isinstance(table, dict) or own in table:
            raise Refusal(400, "invalid_request", "a field is said twice", name[:64])
        table[own] = part
    return found

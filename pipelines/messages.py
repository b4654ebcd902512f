"""What was said in a chat: checked, and its pictures taken out in the order they are shown."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as brief  # a picture in an error would be megabytes
from typing import Any

from mindsd.errors import RequestError
from mindsd.pipelines.picture import Picture

ROLES = ("system", "developer", "user", "assistant", "tool")
KINDS = ("text", "image", "image_url")
MAX_URL = 64 * 2**20  # characters of a picture in a data: URL

Message = Mapping[str, Any]


def read_messages(
    prompt: str | Sequence[Message], system: str | None, *, sees: bool, files: bool = True
) -> tuple[list[dict[str, Any]], list[Picture]]:
    """Messages as a chat template takes them, and their pictures.

    Args:
        prompt: what a user says, or messages {"role", "content"}. A content is a text, or a list of
            {"type": "text", "text": ...}, {"type": "image", "image": PIL image or path} and
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}.
        system: said before all of them.
        sees: whether the model reads pictures.
        files: whether pictures may be paths: not in messages from elsewhere.

    Raises:
        RequestError: they are no messages, or show a picture to a model of text alone.
    """
    given = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(given, Sequence) or not given:
        raise RequestError(f"a prompt is a text, messages or tokens, got {brief(prompt)}")
    pictures: list[Picture] = []
    messages = [_message(message, pictures, sees) for message in given]
    if not files and any(isinstance(picture, str | Path) for picture in pictures):
        raise RequestError("a picture is sent along, in an image_url with data:; no path is opened")
    if system is None:
        return messages, pictures
    if not isinstance(system, str):
        raise RequestError(f"a system message is a text, got {brief(system)}")
    if any(message["role"] in ("system", "developer") for message in messages):
        raise RequestError("the messages have a system message of their own; leave `system` out")
    first = {"role": "system", "content": [_said(system)] if sees else system}
    return [first, *messages], pictures


def _message(message: Any, pictures: list[Picture], sees: bool) -> dict[str, Any]:
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
        raise RequestError(
            f"a message is {{'role': {' | '.join(ROLES)}, 'content': text}}, got {brief(message)}"
        )
    content = message.get("content")
    if content is None and message.get("tool_calls"):  # an assistant that only calls
        return dict(message) | {"content": ""}
    if isinstance(content, str):
        return dict(message) | {"content": [_said(content)] if sees else content}
    if not isinstance(content, Sequence) or not content:
        raise RequestError(
            f"a message's content is a text or a list of parts, got {brief(content)}"
        )
    parts = [_part(part, pictures, sees) for part in content]
    if sees:
        return dict(message) | {"content": parts}
    return dict(message) | {"content": "\n".join(part["text"] for part in parts)}


def _said(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _part(part: Any, pictures: list[Picture], sees: bool) -> dict[str, str]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind not in KINDS:
        raise RequestError(f"a part of a message is a text or an image, got {brief(part)}")
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise RequestError(f"a text part holds a text, got {brief(part.get('text'))}")
        return _said(part["text"])
    if not sees:
        raise RequestError("this model reads text alone, no pictures; take one that sees: tiny-vlm")
    pictures.append(_picture(part))
    return {"type": "image"}


def _picture(part: Mapping[str, Any]) -> Picture:
    if part["type"] == "image":
        if not isinstance(part.get("image"), Picture):
            raise RequestError(f"an image is a PIL image or a path, got {brief(part.get('image'))}")
        return part["image"]
    told = part.get("image_url")
    url = told.get("url") if isinstance(told, Mapping) else told
    if not isinstance(url, str) or not url.startswith("data:image/") or ";base64," not in url:
        raise RequestError(
            "an image_url holds the picture itself, data:image/png;base64,...: nothing is fetched"
        )
    if len(url) > MAX_URL:
        raise RequestError(f"a picture of {len(url)} characters is over {MAX_URL}; shrink it")
    try:
        return b64decode(url.split(",", 1)[1], validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("an image_url is no base64") from None

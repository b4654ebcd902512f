"""The messages of a chat as OpenAI has them, and as the pipelines take them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from .bodies import Body
from .text_body import Label, Text
from .uploads import MAX_URL

MOST_MESSAGES, MOST_PARTS, MOST_CALLS = 2048, 256, 128

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Nothing = Annotated[list[None], Field(max_length=0)]
Picture = Callable[[str], Any]  # from an image's URL to the image


class TextPart(Body):
    type: Literal["text"]
    text: Text


class ImageUrl(Body):
    url: Annotated[str, Field(max_length=MAX_URL)]
    detail: Literal["auto", "low", "high"] | None = Field(None, description="not used")


class ImagePart(Body):
    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]
Said = Text | Annotated[list[TextPart], Field(min_length=1, max_length=MOST_PARTS)]


class CalledFunction(Body):
    name: Name
    arguments: Text


class Call(Body):
    id: Label
    type: Literal["function"]
    function: CalledFunction


class SystemMessage(Body):
    role: Literal["system", "developer"]
    content: Said
    name: Name | None = None


class UserMessage(Body):
    role: Literal["user"]
    content: Text | Annotated[list[Part], Field(min_length=1, max_length=MOST_PARTS)]
    name: Name | None = None


class AssistantMessage(Body):
    """As an answer had it: what clients send back of one is taken."""

    role: Literal["assistant"]
    content: Said | None = None
    reasoning_content: Text | None = None
    tool_calls: Annotated[list[Call], Field(max_length=MOST_CALLS)] | None = None
    name: Name | None = None
    refusal: None = None
    annotations: Nothing | None = None
    audio: None = None
    function_call: None = None


class ToolMessage(Body):
    role: Literal["tool"]
    content: Said
    tool_call_id: Label


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


def image_urls(message: Message) -> list[str]:
    """Of the pictures in it."""
    parts = message.content if isinstance(message.content, list) else ()
    return [part.image_url.url for part in parts if isinstance(part, ImagePart)]


def told(messages: Sequence[Message], picture: Picture) -> list[dict[str, Any]]:
    """Messages as `read_messages` takes them; decodes pictures, so it belongs on a thread.

    Raises:
        Refusal: a picture is none that is taken.
    """
    return [_told(message, picture) for message in messages]


def _told(message: Message, picture: Picture) -> dict[str, Any]:
    own = message.model_dump(exclude_none=True, exclude={"content", "annotations"})
    content = message.content
    if isinstance(content, list):
        content = [_part(part, picture) for part in content]
    if "tool_calls" in own:
        own["tool_calls"] = [_call(call) for call in own["tool_calls"]]
    return own | {"content": content if content is not None or own.get("tool_calls") else ""}


def _part(part: TextPart | ImagePart, picture: Picture) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    return {"type": "image", "image": picture(part.image_url.url)}


def _call(call: dict[str, Any]) -> dict[str, Any]:
    """With its arguments as an object, as chat templates expect them; text that is none stays."""
    try:
        arguments = json.loads(call["function"]["arguments"])
    except (ValueError, RecursionError):
        return call
    return call | {"function": call["function"] | {"arguments": arguments}}

"""The form that an answer in a chat shall have: of JSON, or calls of tools."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import Field

from mindsd.errors import RequestError
from mindsd.sampling.grammar import schema_text

from .bodies import Body
from .chat_message import Name
from .text_body import LONGEST_REGEX, Text

PATTERN = re.compile(r'"pattern":("(?:[^"\\]|\\.)*")')  # in JSON without white space


class PlainFormat(Body):
    type: Literal["text"]


class ObjectFormat(Body):
    type: Literal["json_object"]


class NamedSchema(Body):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: Text | None = Field(None, description="not used: say it in a message")
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = Field(None, description="it is always kept to")


class SchemaFormat(Body):
    type: Literal["json_schema"]
    json_schema: NamedSchema


Format = Annotated[PlainFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


class Function(Body):
    name: Name
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = Field(
        None, description="kept to where tool_choice asks for a call; with auto the model is free"
    )


class ToolBody(Body):
    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    name: Name


class NamedTool(Body):
    type: Literal["function"]
    function: NamedFunction


def constraint_of(form: Format | None) -> dict[str, Any]:
    """The option of `TextGeneration.submit`. Walks through the schema: belongs on a thread.

    Raises:
        RequestError: the schema cannot be used.
    """
    if isinstance(form, ObjectFormat):
        return {"json_object": True}
    if isinstance(form, SchemaFormat):
        return {"json_schema": _checked(form.json_schema.schema_ or {})}
    return {}


def tools_of(tools: list[ToolBody] | None) -> list[dict[str, Any]] | None:
    """As `TextGeneration.submit` takes them.

    Raises:
        RequestError: the parameters of one cannot be used.
    """
    for tool in tools or ():
        if tool.function.parameters is not None:
            _checked(tool.function.parameters)
    return [_tool(tool) for tool in tools] if tools else None


def _tool(tool: ToolBody) -> dict[str, Any]:
    """Without `strict`, which no chat template knows."""
    told = tool.function.model_dump(exclude_none=True, exclude={"strict"})
    return {"type": "function", "function": told}


def _checked(schema: dict[str, Any]) -> str:
    text = schema_text(schema)
    longest = max((len(json.loads(own)) for own in PATTERN.findall(text)), default=0)
    if longest > LONGEST_REGEX:
        raise RequestError(f"a pattern has {longest} characters, at most {LONGEST_REGEX}")
    return text

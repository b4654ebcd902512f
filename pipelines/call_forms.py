"""How models write calls of functions, and what stands after each mark.

Common forms, all of JSON:

    <tool_call>{"name": ..., "arguments": {...}}</tool_call>     Hermes, Qwen
    <|python_tag|>{"name": ..., "parameters": {...}}             Llama 3; the mark may be missing
    [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]         Mistral
    ```json {"name": ..., "arguments": {...}} ```                any, if it is the name of a tool

What is not well formed stays text. Other forms need the tokenizer's own response template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

HERMES, LLAMA, MISTRAL, FENCE = "<tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "```json"
BARE = ""  # Llama's form without its mark, at the start of an answer only
CLOSES = {HERMES: "</tool_call>", LLAMA: "", MISTRAL: "", FENCE: "```", BARE: ""}
MARKS = (HERMES, LLAMA, MISTRAL, FENCE)
WAIT = "wait"
FIRST_KEYS = ("name", "type", "parameters", "arguments")  # of a call without a mark
FIRST_KEY = re.compile(r'\{\s*(?:\Z|"(\w*)(?:\Z|(")))')
JSON_PARTS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]"]', re.DOTALL)


def read_block(mark: str, text: str, last: bool, names: Collection[str]) -> Any:
    """The calls that stand after a mark.

    Args:
        mark: one of MARKS, or BARE.
        text: what follows it so far.
        last: no more text will come.
        names: those of the tools, which calls without a mark of their own must have.

    Returns:
        The calls as (name, arguments) and the characters they took; None where no call stands
        there; WAIT where more text is needed to know.
    """
    unsure = None if last else WAIT
    start = len(text) - len(text.lstrip())
    if start == len(text):
        return unsure
    if text[start] != ("[" if mark == MISTRAL else "{"):
        return None
    if mark == BARE and not _hopeful(text):
        return None
    end = json_end(text, start)
    if end is None:
        return unsure
    calls = calls_in(text[start:end])
    if not calls or mark in (BARE, FENCE) and calls[0][0] not in names:
        return None
    rest = text[end:].lstrip()
    if CLOSES[mark] and rest.startswith(CLOSES[mark]):
        return calls, len(text) - len(rest) + len(CLOSES[mark])
    if CLOSES[mark] and not last and CLOSES[mark].startswith(rest):
        return WAIT
    return None if CLOSES[mark] and rest else (calls, end)


def _hopeful(text: str) -> bool:
    """Whether an object without a mark, of which this is the beginning, may be a call."""
    found = FIRST_KEY.match(text)
    key = found and (found[1] or "")
    return key is not None and any(
        own == key if found and found[2] else own.startswith(key) for own in FIRST_KEYS
    )


def json_end(text: str, start: int) -> int | None:
    """Where the brackets that open at `start` are closed; None where they are not yet."""
    depth = 0
    for part in JSON_PARTS.finditer(text, start):
        if part[0] == '"':  # a string that is not closed
            return None
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(part[0], 0)
        if depth == 0:
            return part.end()
    return None


def calls_in(text: str) -> list[tuple[str, str]] | None:
    """Names and arguments of an object or a list of calls; None where it is none."""
    try:
        told = json.loads(text)
        return [_name_and_arguments(own) for own in (told if isinstance(told, list) else [told])]
    except (ValueError, RecursionError):
        return None


def _name_and_arguments(told: Any) -> tuple[str, str]:
    name = told.get("name") if isinstance(told, dict) else None
    arguments = told.get("arguments", told.get("parameters")) if name else None
    if isinstance(arguments, str):  # JSON within JSON
        arguments = json.loads(arguments)
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError("no call")
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    (name + text).encode()  # half a surrogate pair could not be sent
    return name, text

"""The prompts of a file of JSON lines; what is wrong with one is its own affair."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindsd.errors import RequestError

from .answer_file import Form, Key

MARK = b"\xef\xbb\xbf"  # which some editors put before UTF-8 text


@dataclass(frozen=True)
class PromptLine:
    """One line.

    Attributes:
        number: counted from 1.
        key: what its answer is known by: "id" with its id, or "line" with its number where it has
            none.
        prompt: a text, messages, or tokens.
        options: what else it says, for `TextGeneration.submit`.
        error: why it cannot be asked; None where it seems well.
    """

    number: int
    key: Key
    prompt: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class PromptLines:
    """The lines of a file that are not answered yet; read anew, a line at a time, by each loop.

    Empty lines are passed over, though they count.

    Attributes:
        path: the file, UTF-8.
        answered: keys of the lines to leave out.
    """

    path: Path
    answered: Collection[Key]

    def __iter__(self) -> Iterator[PromptLine]:
        return (line for line in self._all() if line.key not in self.answered)

    def count(self) -> tuple[int, int]:
        """How many are left to answer, and how many were answered before.

        Raises:
            RequestError: the file cannot be read.
        """
        try:
            keys = [line.key in self.answered for line in self._all()]
        except OSError as error:
            raise RequestError(f"{self.path} cannot be read ({error.strerror})") from None
        return keys.count(False), keys.count(True)

    def _all(self) -> Iterator[PromptLine]:
        first: dict[Key, int] = {}
        with open(self.path, "rb") as file:
            for number, raw in enumerate(file, 1):
                raw = raw.removeprefix(MARK) if number == 1 else raw
                if not raw.strip():
                    continue
                line = parse_line(number, raw)
                before = first.setdefault(line.key, number)
                if before != number:
                    said = f"the id {line.key[1]!r} is that of line {before}"
                    line = PromptLine(number, ("line", number), error=said)
                yield line


def parse_line(number: int, raw: bytes) -> PromptLine:
    """One line, told by its number where it has no id; what is wrong with it is said in it."""
    key: Key = ("line", number)
    try:
        told = _load(raw)
        if isinstance(told, str):
            return PromptLine(number, key, told)
        if not isinstance(told, dict):
            raise RequestError(f"a line is an object or a text, got {type(told).__name__}")
        key = _key(number, told.pop("id", None))
        given = [name for name in ("prompt", "messages") if told.get(name) is not None]
        if len(given) != 1:
            raise RequestError(f"a line has a prompt or messages, one of the two; got {given}")
        prompt = _checked(given[0], told[given[0]])
        options = {k: v for k, v in told.items() if k not in ("prompt", "messages")}
        return PromptLine(number, key, prompt, options)
    except RequestError as error:
        return PromptLine(number, key, error=str(error))


def _load(raw: bytes) -> Any:
    try:
        told = json.loads(raw.decode())
        json.dumps(told, ensure_ascii=False).encode()  # half a character may be written as \ud800
        return told
    except UnicodeError:
        raise RequestError("the line is not valid UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the line is not JSON ({error})") from None


def _key(number: int, id: object) -> Key:
    if id is None:
        return "line", number
    if isinstance(id, bool) or not isinstance(id, str | int):
        raise RequestError(f"an id is a text or a whole number, got {id!r}")
    return "id", id


def _checked(name: str, prompt: Any) -> Any:
    if name == "messages" and not isinstance(prompt, list):
        raise RequestError(f"messages are a list, got {type(prompt).__name__}")
    if name == "prompt" and not isinstance(prompt, str | list):
        raise RequestError(f"a prompt is a text or tokens, got {type(prompt).__name__}")
    for message in prompt if name == "messages" else ():
        content = message.get("content") if isinstance(message, dict) else ""
        if not isinstance(content, str | list):
            said = "the content of a message is a text or a list of parts"
            raise RequestError(f"{said}, got {content!r}")
    return prompt


def _answer_key(told: dict[str, Any]) -> Key | None:
    for name in ("id", "line"):
        if isinstance(told.get(name), str | int):
            return name, told[name]
    return None


ANSWERS = Form((b'{"id": ', b'{"line": '), _answer_key)

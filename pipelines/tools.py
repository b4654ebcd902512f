"""Function calling in OpenAI's form: the tools of a request, and the calls that a model wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from mindsd.errors import RequestError
from mindsd.pipelines.call_forms import (
    BARE,
    CLOSES,
    HERMES,
    LLAMA,
    MARKS,
    WAIT,
    calls_in,
    read_block,
)
from mindsd.pipelines.reasoning import doubtful
from mindsd.sampling.grammar import Constraint, schema_text

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MOST_TOOLS = 128
# As Python's json writes it, which is how chat templates show calls to a model.
SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True)
class Tool:
    """A function that the model may call; `parameters` is the text of a JSON schema."""

    name: str
    description: str
    parameters: str


@dataclass(frozen=True)
class ToolCall:
    """A call that the model wrote; `arguments` is the text of a JSON object."""

    id: str
    name: str
    arguments: str


def parse_tools(tools: Sequence[Any]) -> tuple[Tool, ...]:
    """The tools of a request: [{"type": "function", "function": {"name": ..., ...}}, ...].

    Raises:
        RequestError: one has another type, no proper or no new name, or its parameters are not
            the JSON schema of an object; or there are too many.
    """
    if not isinstance(tools, list | tuple) or len(tools) > MOST_TOOLS:
        raise RequestError(f"tools is a list of at most {MOST_TOOLS} objects")
    parsed = tuple(_parsed(place, tool) for place, tool in enumerate(tools))
    names = [tool.name for tool in parsed]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RequestError(f"two tools have the name {twice[0]!r}")
    return parsed


def _parsed(place: int, tool: Any) -> Tool:
    told = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(told, dict) or tool.get("type") != "function":
        raise RequestError(f'tool {place} is no {{"type": "function", "function": {{...}}}}')
    name, parameters = told.get("name"), told.get("parameters") or {"type": "object"}
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RequestError(f"tool {place} needs a name of 1 to 64 of a-z A-Z 0-9 _ -, got {name!r}")
    if not isinstance(parameters, dict) or parameters.get("type") != "object":
        raise RequestError(f'the parameters of tool {name!r} are no schema with "type": "object"')
    description = told.get("description") or ""
    if not isinstance(description, str):
        raise RequestError(f"the description of tool {name!r} is no text")
    try:
        return Tool(name, description, schema_text(parameters))
    except RequestError as error:
        raise RequestError(f"the parameters of tool {name!r} cannot be used: {error}") from None


def tool_constraint(tools: Sequence[Tool], choice: Any) -> Constraint | None:
    """What the answer must be for OpenAI's `tool_choice`: exactly one call in Hermes' form.

    Args:
        tools: those of the request.
        choice: "required" (a call of any tool), {"type": "function", "function": {"name": ...}},
            or "auto" or "none", which ask for nothing: None.

    Raises:
        RequestError: it is none of these, or names a tool that the request does not have.
    """
    if choice in (None, "auto", "none"):
        return None
    told = choice.get("function") if isinstance(choice, dict) else None
    name = told.get("name") if isinstance(told, dict) else None
    asked = [tool for tool in tools if choice == "required" or tool.name == name]
    if not asked:
        raise RequestError(f"tool_choice {choice!r} asks for none of the {len(tools)} tools")
    rules = [f"start: {' | '.join(f'call_{place}' for place in range(len(asked)))}"]
    for place, tool in enumerate(asked):
        before = f'{HERMES}\n{{"name": "{tool.name}", "arguments": '
        after = json.dumps("}\n" + CLOSES[HERMES])
        schema = json.dumps({"x-guidance": SPACING, **json.loads(tool.parameters)})
        rules += [f"call_{place}: {json.dumps(before)} arguments_{place} {after}"]
        rules += [f"arguments_{place}: %json {schema}"]
    return Constraint(grammar="\n".join(rules))


def tool_calls(text: str, tools: Sequence[Tool], salt: str = "") -> tuple[str, list[ToolCall]]:
    """The text that is left and the calls of a whole answer; see `ToolStream`."""
    stream = ToolStream(tools, salt)
    shown = stream.push(text)
    rest, calls = stream.finish()
    return shown + rest, calls


class ToolStream:
    """Takes the calls out of an answer while it comes; the same however the text is cut.

    What may be a call is held back until it is certain. White space round calls is left out where
    no text stands on both sides. Without tools everything is text.

    Args:
        tools: those of the request.
        salt: what makes the ids of this answer's calls its own, as the id of the request.

    Attributes:
        calls: those that are complete so far.
    """

    def __init__(self, tools: Sequence[Tool], salt: str = "") -> None:
        self.calls: list[ToolCall] = []
        self._names = {tool.name for tool in tools}
        self._salt = salt
        self._held = ""  # not read yet
        self._space = ""  # read, but perhaps before a call
        self._bare = bool(tools)  # a call may come here without a mark
        self._shown = False
        self._after_call = False

    def push(self, text: str) -> str:
        """Take more text; the text that is safe to show now, often empty."""
        self._held += text
        return "".join(self._read(last=False))

    def finish(self) -> tuple[str, list[ToolCall]]:
        """The rest of the text, once no more comes, and all calls."""
        text = "".join(self._read(last=True))
        space, self._space = self._space, ""
        return text if self.calls else text + space, self.calls

    def _read(self, last: bool) -> Iterator[str]:
        while self._held:
            mark, at = self._candidate()
            if mark is None:
                sure = len(self._held) - (0 if last else doubtful(self._held, MARKS))
                yield self._show(self._held[:sure])
                self._held = self._held[sure:]
                return
            found = read_block(mark, self._held[at + len(mark) :], last, self._names)
            if found == WAIT:
                if mark != BARE:
                    yield self._show(self._held[:at])
                    self._held = self._held[at:]
                return
            if found is None:  # no call: the mark is text, and what follows it is read again
                yield self._show(self._held[: at + len(mark)])
                self._held, self._bare = self._held[at + len(mark) :], False
                continue
            calls, length = found
            yield self._show("" if mark == BARE else self._held[:at])
            self._add(calls)
            self._held = self._held[at + len(mark) + length :]
            self._bare = mark in (BARE, LLAMA)  # Llama puts one after another

    def _candidate(self) -> tuple[str | None, int]:
        """The next place where a call may begin, and its mark."""
        if self._bare:
            first = self._held.lstrip(" \t\r\n;" if self.calls else None)
            if first.startswith("{") or not first:
                return BARE, len(self._held) - len(first)
            self._bare = False
        if not self._names:
            return None, 0
        places = [(self._held.find(mark), mark) for mark in MARKS if mark in self._held]
        at, mark = min(places, default=(0, None))
        return mark, at

    def _add(self, calls: list[tuple[str, str]]) -> None:
        for call in calls:
            self.calls.append(_numbered(self._salt, len(self.calls), *call))
        self._space = self._space if self._shown else ""
        self._after_call = True

    def _show(self, text: str) -> str:
        """The text without the white space at its end, which is kept for later."""
        text = self._space + (text.lstrip() if self._after_call else text)
        shown = text.rstrip()
        self._space = text[len(shown) :]
        self._shown = self._shown or bool(shown)
        self._after_call = self._after_call and not shown
        return shown


def templated_calls(
    tokenizer: Any, text: str, prompt: str, tools: Sequence[Tool], salt: str = ""
) -> tuple[str | None, str, list[ToolCall]] | None:
    """Thoughts, text and calls by the tokenizer's own response template, if it has one.

    Args:
        tokenizer: a transformers tokenizer of 5.20 or newer.
        text: the whole answer, special tokens included.
        prompt: the text before it, which may have begun the answer.
        tools: those of the request.
        salt: as of `ToolStream`.

    Returns:
        None where there is no template, or the answer does not keep to it: use `tool_calls`.
    """
    template = getattr(tokenizer, "response_template", None)
    if template is None:
        return None
    known = [{"name": own.name, "parameters": json.loads(own.parameters)} for own in tools]
    functions = [{"type": "function", "function": own} for own in known]
    try:
        told = tokenizer.parse_response(text, template, prefix=prompt, tools=functions)
        written = [calls_in(json.dumps(own["function"])) for own in told.get("tool_calls", ())]
    except (ValueError, KeyError, TypeError):
        return None
    if None in written:
        return None
    flat = [call for own in written for call in own or ()]
    calls = [_numbered(salt, place, *call) for place, call in enumerate(flat)]
    thoughts = told.get("reasoning_content") or told.get("thinking")
    return thoughts, told.get("content") or "", calls


def _numbered(salt: str, place: int, name: str, arguments: str) -> ToolCall:
    told = json.dumps([salt, place, name, arguments])
    return ToolCall(f"call_{blake2b(told.encode(), digest_size=12).hexdigest()}", name, arguments)

"""What a stream of a chat tells of one answer, piece by piece: thoughts, text, and calls."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from mindsd.pipelines.reasoning import REASONING, ReasoningStream
from mindsd.pipelines.text_result import TokenLogprob
from mindsd.pipelines.tools import Tool, ToolCall, ToolStream
from mindsd.request import Piece


class ChatDelta:
    """One answer while it comes; joined, its deltas are the answer told whole.

    Args:
        tools: that the model may call.
        most_calls: calls that are told; None for all.
    """

    def __init__(self, tools: Sequence[Tool], most_calls: int | None = None) -> None:
        self._thoughts: ReasoningStream | None = None
        self._tools = ToolStream(tools, secrets.token_hex(8))  # ids of its calls are its own
        self._most_calls = most_calls
        self._calls = 0
        self._logprobs: list[TokenLogprob] = []

    def push(self, piece: Piece) -> list[dict[str, Any]]:
        """The deltas that are certain now, often none."""
        if self._thoughts is None:
            self._thoughts = ReasoningStream(piece.thinks)
        self._logprobs += piece.logprobs or ()
        return self._told(self._thoughts.push(piece.text))

    def finish(self) -> list[dict[str, Any]]:
        """The rest, once no more comes."""
        deltas = [] if self._thoughts is None else self._told(self._thoughts.finish())
        text, _ = self._tools.finish()
        return [*deltas, *self._content(text)]

    def logprobs(self) -> list[TokenLogprob]:
        """Of the tokens since this was asked last."""
        waiting, self._logprobs = self._logprobs, []
        return waiting

    def _told(self, pieces: list[tuple[str, str]]) -> list[dict[str, Any]]:
        deltas: list[dict[str, Any]] = []
        for kind, text in pieces:
            if kind == REASONING:
                deltas.append({"reasoning_content": text})
            else:
                deltas += self._content(self._tools.push(text))
        return deltas

    def _content(self, text: str) -> list[dict[str, Any]]:
        """A text, and the calls that were found beside it."""
        calls = self._tools.calls[: self._most_calls]
        new = [{"index": at, **call_of(calls[at])} for at in range(self._calls, len(calls))]
        self._calls = len(calls)
        deltas: list[dict[str, Any]] = [{"content": text}] if text else []
        return [*deltas, {"tool_calls": new}] if new else deltas


def call_of(call: ToolCall) -> dict[str, Any]:
    """A call as OpenAI has it."""
    told = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": told}

"""What a text request came to."""

from __future__ import annotations

from dataclasses import dataclass

from mindsd.pipelines.tools import ToolCall


@dataclass(frozen=True)
class Usage:
    """Tokens that one answer took.

    Attributes:
        prompt: of the prompt.
        completion: drawn.
        cached: of the prompt, found in the cache.
    """

    prompt: int
    completion: int
    cached: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion


@dataclass(frozen=True)
class TokenLogprob:
    """A drawn token's log-probability, and the likeliest tokens' with theirs."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class TextResult:
    """One answer.

    Attributes:
        text: without what ended it, and without thoughts and calls.
        tokens: all that were drawn, the end of sequence included.
        finish_reason: "stop" (the model or a stop string ended it), "tool_calls" or "length".
        usage: tokens that it took.
        logprobs: one for each token; None where they were not asked for.
        sample: which of the answers to its prompt.
        stopped_by: the stop string or token that ended it; None where it was the model itself.
        reasoning: what it thought before, in a chat (`<think>`); None for nothing.
        tool_calls: the functions that it calls, of the request's tools.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: str
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] | None = None
    sample: int = 0
    stopped_by: str | int | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()

    def __str__(self) -> str:
        return self.text

"""What may be asked of a completion: a text, or tokens, to be gone on with as it is.

A prompt is read as its sender wrote it: special tokens in it are special tokens, for it is no
message of a chat but all that the model reads.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from .text_body import Likeliest, Text, TextBody, Token

MOST_PROMPTS, MOST_IDS = 128, 2**18

Ids = Annotated[list[Token], Field(min_length=1, max_length=MOST_IDS)]
Several = Annotated[list[Text], Field(min_length=1, max_length=MOST_PROMPTS)]
SeveralIds = Annotated[list[Ids], Field(min_length=1, max_length=MOST_PROMPTS)]


class CompletionBody(TextBody):
    """What one call asks for."""

    prompt: Text | Several | Ids | SeveralIds
    echo: bool | None = Field(None, description="the prompt stands before its answers")
    logprobs: Likeliest | None = Field(None, description="so many of the likeliest tokens, too")
    best_of: Annotated[int, Field(ge=1, le=128)] | None = Field(None, description="n, or null")
    suffix: None = Field(None, description="nothing is written before a given end")

    @model_validator(mode="after")
    def _is_done(self) -> CompletionBody:
        if self.best_of not in (None, self.n or 1):
            raise ValueError("best_of is n: all answers are given, not the best of some")
        if self.echo and self.logprobs is not None:
            raise ValueError("the tokens of a prompt have no logprobs here; leave echo out")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """All of them, one by one."""
        given = self.prompt
        if isinstance(given, str):
            return [given]
        if isinstance(given[0], int):
            return [given]  # pyright: ignore[reportReturnType]
        return list(given)  # pyright: ignore[reportReturnType]

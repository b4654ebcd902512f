"""What may be asked of a chat."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from mindsd.pipelines.tools import MOST_TOOLS

from .chat_form import Format, NamedTool, PlainFormat, ToolBody
from .chat_message import MOST_MESSAGES, Message
from .text_body import Likeliest, TextBody, Tokens

NOT_DONE = {
    "audio": "nothing is spoken here",
    "function_call": "say it by tool_choice",
    "functions": "say them by tools",
    "moderation": "nothing is moderated here",
    "prediction": "repeated text is guessed ahead by itself",
    "prompt_cache_options": "equal beginnings of prompts are found by themselves",
    "prompt_cache_retention": "how long prompts are cached cannot be chosen",
    "reasoning_effort": "how much a model thinks cannot be chosen here",
    "verbosity": "say in a message how long the answer shall be",
    "web_search_options": "nothing is searched here",
}


class ChatBody(TextBody):
    """What one call asks for."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Tokens | None = Field(None, description="as max_tokens")
    logprobs: bool | None = Field(None, description="of every token that was drawn")
    top_logprobs: Likeliest | None = None
    tools: Annotated[list[ToolBody], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = Field(
        None, description="required and a name give exactly one call, by its schema"
    )
    parallel_tool_calls: bool | None = Field(None, description="false leaves out all but the first")
    response_format: Format | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    audio: None = None
    function_call: None = None
    functions: None = None
    moderation: None = None
    prediction: None = None
    prompt_cache_options: None = None
    prompt_cache_retention: None = None
    reasoning_effort: None = None
    verbosity: None = None
    web_search_options: None = None

    @field_validator(*NOT_DONE, mode="before")
    @classmethod
    def _is_left_out(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None:
            raise ValueError(NOT_DONE[info.field_name or ""])
        return value

    @field_validator("max_completion_tokens")
    @classmethod
    def _is_said_once(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("max_tokens") not in (None, value):
            raise ValueError("it is max_tokens by a newer name; say one of the two")
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _has_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("logprobs"):
            raise ValueError("they stand beside logprobs; say logprobs as well")
        return value

    @model_validator(mode="after")
    def _has_one_form(self) -> ChatBody:
        form = None if isinstance(self.response_format, PlainFormat) else self.response_format
        fixed = any(own is not None for own in (form, self.regex, self.choice, self.grammar))
        if fixed and self.tools and self.tool_choice != "none":
            raise ValueError(
                "an answer of a fixed form calls no tools; say tool_choice none, or leave the form "
                "out until the tools are called"
            )
        return self

    def options(self) -> dict[str, Any]:
        """What `TextGeneration.submit` takes of it, without messages, tools and form."""
        own = super().options()
        if self.max_completion_tokens is not None:
            own["max_tokens"] = self.max_completion_tokens
        if self.logprobs:
            own["logprobs"] = self.top_logprobs or 0
        return own

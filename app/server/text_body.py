"""What may be asked of a text, by messages or by a prompt: OpenAI's fields, and ours beside them.

Ours have vLLM's names where it has them. Left out is `None` everywhere, as clients send null.
`user`, `metadata`, `safety_identifier`, `prompt_cache_key` and `service_tier` are taken, not used.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mindsd.sampling.grammar import MOST_CHOICES
from mindsd.sampling.parameters import STOPS

from .bodies import Body, ModelId, Priority, Seconds

LONGEST = 2**20  # characters of one text
UNLESS_SAID = 4096  # tokens of an answer where `max_tokens` is left out, or what room is left
MOST_TOKENS = 2**20
MAX_TEMPERATURE = 100
LONGEST_REGEX = 512  # characters
SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"),
    *("repetition_penalty", "logit_bias", "seed", "stop", "stop_token_ids", "min_tokens"),
    *("ignore_eos", "n", "priority", "regex", "choice", "grammar"),
)  # what the engine takes under the same name

Text = Annotated[str, Field(max_length=LONGEST)]
Token = Annotated[int, Field(ge=0, lt=2**31)]
Label = Annotated[str, Field(max_length=512)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
Likeliest = Annotated[int, Field(ge=0, le=20)]


class StreamOptions(Body):
    include_usage: bool | None = Field(None, description="a last event tells the usage")
    include_obfuscation: Literal[False] | None = Field(None, description="there is none")


class TextBody(Body):
    """What messages and prompts have in common."""

    model: ModelId
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = Field(
        None, description="answers to each prompt"
    )
    max_tokens: Tokens | None = Field(
        None, description=f"of an answer; by default the room left, at most {UNLESS_SAID}"
    )
    temperature: Annotated[float, Field(ge=0, le=MAX_TEMPERATURE)] | None = Field(
        None, description="left out, this and others are as the model's generation_config says"
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: (
        Annotated[
            dict[Annotated[str, Field(pattern=r"^[0-9]{1,7}$")], Bias], Field(max_length=1024)
        ]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=STOPS)] | None = None
    user: Label | None = Field(None, description="not used")
    metadata: Annotated[dict[Label, Label], Field(max_length=16)] | None = Field(
        None, description="not used"
    )
    safety_identifier: Label | None = Field(None, description="not used")
    prompt_cache_key: Label | None = Field(None, description="not used: equal beginnings are found")
    service_tier: Literal["auto", "default"] | None = Field(None, description="not used")
    store: Literal[False] | None = Field(None, description="answers are kept nowhere")
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(None, description="0 is off")
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=MOST_TOKENS)] | None = None
    stop_token_ids: Annotated[list[Token], Field(max_length=256)] | None = None
    ignore_eos: bool | None = None
    regex: Annotated[str, Field(max_length=LONGEST_REGEX)] | None = Field(
        None, description="the whole answer matches it (Rust's syntax)"
    )
    choice: Annotated[list[Text], Field(min_length=1, max_length=MOST_CHOICES)] | None = Field(
        None, description="the answer is one of these"
    )
    grammar: Annotated[str, Field(max_length=2**14)] | None = Field(
        None, description="EBNF in lark's form, from the rule start"
    )
    priority: Priority | None = Field(None, description="higher goes first")
    timeout: Seconds | None = Field(None, description="seconds, waiting included")

    @field_validator("stop")
    @classmethod
    def _is_some(cls, value: Any) -> Any:
        return None if value == [] else value

    @model_validator(mode="after")
    def _has_a_stream_for_its_options(self) -> TextBody:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options belong to a stream; say stream as well")
        return self

    @property
    def wants_usage(self) -> bool:
        """Whether a stream tells the usage at its end."""
        return self.stream_options is not None and self.stream_options.include_usage is True

    def options(self) -> dict[str, Any]:
        """What `TextGeneration.submit` takes of it."""
        said = {name: getattr(self, name) for name in (*SAMPLING, "max_tokens")}
        return {name: own for name, own in said.items() if own is not None}

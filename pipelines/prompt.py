"""What people give as a prompt, as the tokens that the model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mindsd.errors import RequestError
from mindsd.pipelines.reasoning import OPEN

ROLES = ("system", "developer", "user", "assistant", "tool")
Message = Mapping[str, Any]
Prompt = str | Sequence[Message] | Sequence[int]


@dataclass(frozen=True)
class Tokens:
    """A prompt as the model reads it.

    Attributes:
        ids: its tokens.
        chat: whether it is a chat, so that the answer may hold thoughts and calls.
        thinks: it ends inside the thoughts: the template has opened them.
    """

    ids: list[int]
    chat: bool = False
    thinks: bool = False


def prompt_tokens(tokenizer: Any, prompt: Prompt, **how: Any) -> list[int]:
    """The ids of `read_prompt`."""
    return read_prompt(tokenizer, prompt, **how).ids


def read_prompt(
    tokenizer: Any,
    prompt: Prompt,
    *,
    chat: bool | None = None,
    system: str | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    words: int | None = None,
) -> Tokens:
    """The tokens of a prompt.

    Args:
        tokenizer: transformers' tokenizer.
        prompt: a text; messages {"role", "content"}; or tokens, taken as they are.
        chat: whether a text is what a user says (by the model's chat template) or is to be gone on
            with; None says it where the model has a template.
        system: said before it, in a chat.
        tools: in the OpenAI form, told to the model by its template.
        words: how many tokens the model knows, where its tokenizer knows more.

    Raises:
        RequestError: it is none of these, is empty, or the model has no template for it.
    """
    if isinstance(prompt, Sequence) and prompt and isinstance(prompt[0], int):
        if system is not None or tools or chat:
            raise RequestError("a prompt of tokens is taken as it is: no system, tools or chat")
        return Tokens(_checked_tokens(prompt, min(words or len(tokenizer), len(tokenizer))))
    template = bool(getattr(tokenizer, "chat_template", None))
    if isinstance(prompt, str) and not (template if chat is None else chat):
        if system is not None or tools:
            raise RequestError("a system message and tools belong to a chat; give chat=True")
        tokens = Tokens(_tokenized(tokenizer, prompt, special=True))
    else:
        if not template:
            raise RequestError(
                "this model has no chat template: it only goes on with texts; give chat=False"
            )
        text = _templated(tokenizer, _messages(prompt, system), tools)
        ids = _tokenized(tokenizer, text, special=False)
        tokens = Tokens(ids, chat=True, thinks=text.rstrip().endswith(OPEN))
    if not tokens.ids:
        raise RequestError("the prompt is empty; this model needs at least one token to go on from")
    return tokens


def _tokenized(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"the prompt is no text: {error.reason} at {error.start}") from None
    return tokenizer(text, add_special_tokens=special)["input_ids"]


def _checked_tokens(prompt: Sequence[Any], most: int) -> list[int]:
    for token in prompt:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < most:
            raise RequestError(f"token {token!r} is none of this model's; they are 0 to {most - 1}")
    return list(prompt)


def _messages(prompt: Any, system: str | None) -> list[dict[str, Any]]:
    given = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(given, Sequence) or not given:
        raise RequestError(f"a prompt is a text, messages or tokens, got {prompt!r}")
    messages = [_message(message) for message in given]
    if system is None:
        return messages
    if not isinstance(system, str):
        raise RequestError(f"a system message is a text, got {system!r}")
    if any(message["role"] in ("system", "developer") for message in messages):
        raise RequestError("the messages have a system message of their own; leave `system` out")
    return [{"role": "system", "content": system}, *messages]


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
        raise RequestError(
            f"a message is {{'role': {' | '.join(ROLES)}, 'content': text}}, got {message!r}"
        )
    content = message.get("content")
    silent = content is None and message.get("tool_calls")  # an assistant that only calls
    if not isinstance(content, str) and not silent:
        raise RequestError(
            f"a message's content is a text, got {content!r}; this model reads nothing else"
        )
    return dict(message) | ({"content": ""} if silent else {})


def _templated(tokenizer: Any, messages: list[dict[str, Any]], tools: Any) -> str:
    try:
        return tokenizer.apply_chat_template(
            messages, tools=tools or None, add_generation_prompt=True, tokenize=False
        )
    except Exception as error:  # templates are programs; what they raise is about the messages
        first = str(error).strip().split("\n")[0] or type(error).__name__
        raise RequestError(f"the model's chat template refuses the messages: {first}") from None

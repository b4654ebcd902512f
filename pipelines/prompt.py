"""What people give as a prompt, as the tokens that the model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mindsd.errors import RequestError
from mindsd.pipelines.messages import Message, read_messages
from mindsd.pipelines.picture import Picture
from mindsd.pipelines.reasoning import OPEN
from mindsd.pipelines.typed_text import TypedText
from mindsd.pipelines.vision import AnyImage, Vision
from mindsd.tokenmerge.visual import VisualMerge

Prompt = str | Sequence[Message] | Sequence[int]


@dataclass(frozen=True)
class Tokens:
    """A prompt as the model reads it.

    Attributes:
        ids: its tokens.
        chat: whether it is a chat, so that the answer may hold thoughts and calls.
        thinks: it ends inside the thoughts: the template has opened them.
        images: that it shows.
        full: the tokens with all placeholders of its images, where some are merged.
        pictures, text: the same as people gave them, for models that read them by themselves.
        typed: the text of a special token was typed in it, which only `ids` keep apart.
    """

    ids: list[int]
    chat: bool = False
    thinks: bool = False
    images: tuple[AnyImage, ...] = ()
    full: Sequence[int] = ()
    pictures: tuple[Picture, ...] = ()
    text: str = ""
    typed: bool = False


def are_several(prompts: Any) -> bool:
    """Whether it is a list of prompts, and not messages or tokens."""
    if isinstance(prompts, str) or not isinstance(prompts, Sequence):
        return False
    return not prompts or not isinstance(prompts[0], int | Mapping)


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
    vision: Vision | None = None,
    merge: VisualMerge | None = None,
    salt: str = "",
    untrusted: bool = False,
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
        vision: what reads the pictures of messages; None for a model of text alone.
        merge: how many of their tokens are left; None for all.
        salt: pictures that were seen for others are seen again.
        untrusted: the messages come from elsewhere: no picture is a path, and the text of a
            special token in them is read as text.

    Raises:
        RequestError: it is none of these, is empty, or the model has no template for it.
    """
    _check_salt(salt)
    if isinstance(prompt, Sequence) and prompt and isinstance(prompt[0], int):
        if system is not None or tools or chat:
            raise RequestError("a prompt of tokens is taken as it is: no system, tools or chat")
        ids = _checked_tokens(prompt, min(words or len(tokenizer), len(tokenizer)))
        if vision is not None:
            vision.check(ids, ())
        return Tokens(ids)
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
        typed = TypedText(tokenizer) if untrusted else None
        tokens = _chat(tokenizer, prompt, system, tools, vision, salt, typed)
    if not tokens.ids:
        raise RequestError("the prompt is empty; this model needs at least one token to go on from")
    if vision is None:
        return tokens
    vision.check(tokens.ids, tokens.images)
    left = vision.shrunk(tokens.ids, tokens.images, merge)
    return replace(tokens, ids=left, full=tokens.ids)


def _chat(
    tokenizer: Any,
    prompt: Any,
    system: Any,
    tools: Any,
    vision: Vision | None,
    salt: str,
    typed: TypedText | None,
) -> Tokens:
    messages, pictures = read_messages(prompt, system, sees=vision is not None, files=not typed)
    if typed is not None:
        messages, tools = typed.marked(messages), typed.marked(tools)
    text = _templated(tokenizer, messages, tools)
    images = [] if vision is None else [vision.read(own, salt) for own in pictures]
    told = text if vision is None else vision.expanded(text, images)
    parts = [told] if typed is None else typed.parts(told)
    ids = [id for part in parts for id in _tokenized(tokenizer, part, special=False)]
    thinks = text.rstrip().endswith(OPEN)
    seen = tuple(images), (), tuple(pictures)
    return Tokens(ids, True, thinks, *seen, text=text, typed=len(parts) > 1)


def _tokenized(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"the prompt is no text: {error.reason} at {error.start}") from None
    return tokenizer(text, add_special_tokens=special)["input_ids"]


def _check_salt(salt: Any) -> None:
    try:
        salt.encode()
    except (AttributeError, UnicodeEncodeError):
        raise RequestError(f"a salt is a text, got {salt!r}") from None


def _checked_tokens(prompt: Sequence[Any], most: int) -> list[int]:
    for token in prompt:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < most:
            raise RequestError(f"token {token!r} is none of this model's; they are 0 to {most - 1}")
    return list(prompt)


def _templated(tokenizer: Any, messages: list[dict[str, Any]], tools: Any) -> str:
    try:
        return tokenizer.apply_chat_template(
            messages, tools=tools or None, add_generation_prompt=True, tokenize=False
        )
    except Exception as error:  # templates are programs; what they raise is about the messages
        first = str(error).strip().split("\n")[0] or type(error).__name__
        raise RequestError(f"the model's chat template refuses the messages: {first}") from None

"""What a text request wishes of its answer, held against what its model can give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mindsd.errors import RequestError
from mindsd.pipelines.language_model import LanguageModel
from mindsd.pipelines.tools import Tool, tool_constraint
from mindsd.sampling.grammar import Constraint
from mindsd.sampling.parameters import Sampling
from mindsd.tokenmerge.visual import VisualMerge

CONSTRAINTS = ("json_schema", "json_object", "regex", "choice", "grammar")
PLAIN_ROOM = 1 << 20  # tokens, where a model names no bound


def constraint_of(options: dict[str, Any], tools: Sequence[Tool], choice: Any) -> Constraint | None:
    """What an answer must be; taken out of the options.

    Raises:
        RequestError: it must be several things, or one of them is not well formed.
    """
    given = {name: options.pop(name) for name in CONSTRAINTS if name in options}
    wished = {name: own for name, own in given.items() if own is not None and own is not False}
    call = tool_constraint(tools, choice)
    if call is not None and wished:
        raise RequestError(f"an answer that must call a tool cannot be of a {next(iter(wished))}")
    return call or (Constraint(**wished) if wished else None)


def merge_of(wished: VisualMerge | float | None, model: LanguageModel) -> VisualMerge | None:
    """How many image tokens are merged.

    Raises:
        RequestError: the share is out of range, or the model has none to merge.
    """
    if wished is None:
        return None
    if model.vision is None or model.packed is None:
        why = model.why_plain or "it reads text alone"
        raise RequestError(f"{model.name} has no image tokens to merge: {why}")
    return wished if isinstance(wished, VisualMerge) else VisualMerge(wished)


def sampling_of(options: dict[str, Any], model: LanguageModel, unless_said: int | None) -> Sampling:
    """How the answers are drawn: as was asked, else as the model says, else as `Sampling` does.

    Args:
        options: fields of `Sampling`; None is one that is not asked for.
        unless_said: `max_tokens` where it is not asked for.

    Raises:
        RequestError: an option is unknown, or its value is wrong.
    """
    unsaid = {"max_tokens": unless_said, **model.sampling}
    filled = {name: own for name, own in unsaid.items() if options.get(name) is None}
    return Sampling.parse({**options, **filled})


def fitted(sampling: Sampling, prompt: int, model: LanguageModel, *, said: bool) -> Sampling:
    """The sampling with as many tokens as there is room for after a prompt of so many.

    Args:
        said: whether `max_tokens` was asked for; then it is refused where it does not fit.

    Raises:
        RequestError: the prompt, or what was asked for, does not fit; a stop token is unknown.
    """
    strange = [id for id in sampling.stop_token_ids if id >= model.vocabulary]
    if strange:
        raise RequestError(
            f"stop token {strange[0]} is none of {model.name}'s {model.vocabulary} tokens"
        )
    room = model.room or PLAIN_ROOM
    if prompt >= room:
        raise RequestError(
            f"the prompt has {prompt} tokens, {model.name} has room for {room} with its answer; "
            "shorten it"
        )
    if prompt + sampling.max_tokens <= room:
        return sampling
    if said:
        raise RequestError(
            f"{prompt} tokens of prompt and max_tokens={sampling.max_tokens} are more than the "
            f"{room} tokens that {model.name} has room for; ask for at most {room - prompt}"
        )
    least = min(sampling.min_tokens, room - prompt)
    return replace(sampling, max_tokens=room - prompt, min_tokens=least)

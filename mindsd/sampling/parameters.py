"""What one text request may ask of the sampler, checked when it is made."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from mindsd.errors import RequestError

STOPS = 16  # stop strings of one request
BIAS = 100.0
WHOLE = {  # from, to
    "max_tokens": (1, math.inf),
    "min_tokens": (0, math.inf),
    "top_k": (0, math.inf),
    "seed": (-(2**63), 2**64 - 1),
    "logprobs": (0, 20),
    "n": (1, 128),
}
NUMBERS = {  # from, to
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.0, math.inf),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
NEVER_ZERO = ("top_p", "repetition_penalty")
MAY_BE_NONE = ("seed", "logprobs")


@dataclass(frozen=True)
class Sampling:
    """How the tokens of one request are drawn and where they end.

    Attributes:
        max_tokens: at most so many new tokens, from 1.
        min_tokens: no end of sequence before so many new tokens, at most `max_tokens`.
        temperature: 0 is greedy, at most 100.
        top_k: only the k likeliest tokens; 0 is off.
        top_p: only the fewest tokens that together have this probability (nucleus sampling,
            Holtzman et al., arXiv:1904.09751); above 0, 1 is off.
        min_p: only tokens at least this times as likely as the likeliest (Nguyen et al.,
            arXiv:2407.01082); 0 is off.
        repetition_penalty: divides positive and multiplies negative logits of every token of the
            prompt and the output (Keskar et al., arXiv:1909.05858, as transformers does); 1 is off.
        presence_penalty, frequency_penalty: taken off the logit of a token of the output, once and
            for each time it came (as OpenAI's API); -2 to 2.
        logit_bias: token -> what is added to its logit, -100 to 100. A mapping or pairs; kept as
            pairs sorted by token.
        seed: makes the draws repeatable; None leaves the choice of one to the caller.
        logprobs: so many alternatives (0 to 20) are told with each token; None tells nothing.
        stop: strings that end the text, at most 16; one string is taken as one. Kept as a tuple.
        stop_token_ids: tokens that end the text. Kept as a tuple.
        ignore_eos: the model's own end of sequence does not end the text.
        n: how many answers are drawn for the prompt, 1 to 128.

    Raises:
        RequestError: a value is of the wrong kind or out of its range.
    """

    max_tokens: int = 256
    min_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] | Iterable[tuple[int, float]] = ()
    seed: int | None = None
    logprobs: int | None = None
    stop: Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    n: int = 1

    def __post_init__(self) -> None:
        for name, (low, high) in WHOLE.items():
            value = getattr(self, name)
            if not (value is None and name in MAY_BE_NONE):
                _whole(name, value, low, high)
        for name, (low, high) in NUMBERS.items():
            value = _number(name, getattr(self, name), low, high, name in NEVER_ZERO)
            object.__setattr__(self, name, value)
        if self.min_tokens > self.max_tokens:
            raise RequestError(
                f"min_tokens is at most max_tokens ({self.max_tokens}), got {self.min_tokens}"
            )
        if not isinstance(self.ignore_eos, bool):
            raise RequestError(f"ignore_eos is true or false, got {self.ignore_eos!r}")
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))
        object.__setattr__(self, "stop", _stops(self.stop))
        object.__setattr__(self, "stop_token_ids", _token_ids(self.stop_token_ids))

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Sampling:
        """From names and values, as they come from JSON: null is a parameter that was not given,
        and the keys of `logit_bias` may be written as strings.

        Raises:
            RequestError: a name is unknown (the nearest known one is told), or a value is wrong.
        """
        if not isinstance(given, Mapping):
            raise RequestError(f"sampling parameters are names with values, got {given!r}")
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
                raise RequestError(f"unknown sampling parameter {name!r}; {hint}")
        values = {name: value for name, value in given.items() if value is not None}
        bias = values.get("logit_bias")
        if isinstance(bias, Mapping):
            values["logit_bias"] = [(_from_json(token), value) for token, value in bias.items()]
        return cls(**values)


def _whole(name: str, value: object, low: int, high: float = math.inf) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    to = "up" if high == math.inf else f"to {high}"
    raise RequestError(f"{name} is a whole number from {low} {to}, got {value!r}")


def _number(name: str, value: object, low: float, high: float, never_zero: bool = False) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        fits = value != 0 if never_zero else True
        if fits and value <= 1e38:  # the largest that float32 holds, which also refuses infinity
            return float(value)
    start = f"above {low:g}" if never_zero else f"from {low:g}"
    to = "up" if high == math.inf else f"to {high:g}"
    raise RequestError(f"{name} is a number {start} {to}, got {value!r}")


def _biases(given: object) -> tuple[tuple[int, float], ...]:
    pairs = given.items() if isinstance(given, Mapping) else given
    found: dict[int, float] = {}
    try:
        for token, value in _items("logit_bias", pairs):
            _whole("a token of logit_bias", token, 0)
            if token in found:
                raise RequestError(f"logit_bias names token {token} twice")
            found[token] = _number(f"the logit_bias of token {token}", value, -BIAS, BIAS)
    except (TypeError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        _refuse_items("logit_bias", given)
    return tuple(sorted(found.items()))


def _stops(given: object) -> tuple[str, ...]:
    stops = (given,) if isinstance(given, str) else tuple(_items("stop", given))
    if len(stops) > STOPS:
        raise RequestError(f"stop has at most {STOPS} strings, got {len(stops)}")
    for stop in stops:
        if not isinstance(stop, str) or not stop:
            raise RequestError(f"stop is made of strings that are not empty, got {stop!r}")
    return stops


def _token_ids(given: object) -> tuple[int, ...]:
    return tuple(
        _whole("a token of stop_token_ids", token, 0) for token in _items("stop_token_ids", given)
    )


def _items(name: str, given: object) -> Iterable[Any]:
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        return given
    _refuse_items(name, given)


def _refuse_items(name: str, given: object) -> NoReturn:
    kind = "tokens with numbers" if name == "logit_bias" else "a list"
    raise RequestError(f"{name} is {kind}, got {given!r}")


def _from_json(token: object) -> object:
    if isinstance(token, str) and token.isascii() and token.isdecimal() and len(token) < 20:
        return int(token)
    return token

"""Constrained decoding: which tokens keep a sequence inside a JSON schema, a regex or a grammar.

A constraint says what a whole answer must be. Compiled for a tokenizer it becomes a grammar, the
state of ONE sequence, which masks its next token. The parser is llguidance's (Earley over regexes).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from tokenizers import Tokenizer

from mindsd.errors import ModelError, RequestError

LARGEST_SCHEMA, LARGEST = 65536, {"regex": 8192, "choice": 65536, "grammar": 16384}  # characters
DEEPEST, DEEPEST_LINKED = 32, 1200  # levels, and times $refs: from 1800 an 8 MB stack overflows
MOST_CHOICES = 1024
SPACES = r"[\x20\x0A\x0D\x09]{1,20}"  # JSON allows any number, and a weak model never stops
LIMITS: dict[str, Any] = {"initial_lexer_fuel": 1_000_000, "step_lexer_fuel": 200_000}  # ~20, 14 ms
LIMITS |= {"step_max_items": 50_000, "max_grammar_size": 200_000, "max_lexer_states": 50_000}


@dataclass(frozen=True)
class Constraint:
    """What one whole answer must be. Exactly one field is given.

    Attributes:
        json_schema: JSON by this schema, kept as text; properties come in the schema's order.
        json_object: any JSON object.
        regex: a match of all of it (the syntax of Rust's regex, without look-around).
        choice: one of these texts.
        grammar: EBNF in lark's form as llguidance reads it, from the rule "start".

    Raises:
        RequestError: none or several are given; one is too large, too deep or not well formed.
    """

    json_schema: dict[str, Any] | bool | str | None = None
    json_object: bool = False
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    grammar: str | None = None

    def __post_init__(self) -> None:
        given = [key for key, own in vars(self).items() if own is not getattr(Constraint, key)]
        if len(given) != 1:
            raise RequestError(f"a constraint is one of {', '.join(vars(self))}; got {given}")
        if self.json_schema is not None:
            object.__setattr__(self, "json_schema", schema_text(self.json_schema))
            return
        if self.choice is not None:
            if type(self.choice) not in (list, tuple) or not 0 < len(self.choice) <= MOST_CHOICES:
                raise RequestError(f"a choice is a list of 1 to {MOST_CHOICES} texts")
            object.__setattr__(self, "choice", tuple(self.choice))
        texts = self.choice or [text for text in (self.regex, self.grammar) if text is not None]
        if not all(isinstance(text, str) for text in texts):
            raise RequestError(f"the {self.kind} is no text")
        if (size := sum(map(len, texts))) > LARGEST.get(self.kind, size):
            raise RequestError(f"the {self.kind} has {size} characters, over {LARGEST[self.kind]}")

    @property
    def kind(self) -> str:
        """The name of the field that is given."""
        return next(name for name, value in vars(self).items() if value not in (None, False))


def schema_text(schema: object) -> str:
    """A JSON schema as compact text, from an object, true (anything), or JSON text of these.

    Raises:
        RequestError: it is no JSON schema, refers to another document, or is too large or deep.
    """
    try:
        told = json.loads(schema) if isinstance(schema, str) else schema
        told = {} if told is True else told
        text = json.dumps(told, separators=(",", ":"), allow_nan=False)
        levels = _levels(told)
    except (ValueError, TypeError, RecursionError) as error:
        raise RequestError(f"the json_schema is not JSON ({_line(error)})") from None
    if not isinstance(told, dict):
        raise RequestError(f"a json_schema is an object or true, got {type(told).__name__}")
    if (size := len(text)) > LARGEST_SCHEMA:
        raise RequestError(f"the json_schema has {size} characters, over {LARGEST_SCHEMA}")
    if "x-guidance" in told:
        raise RequestError("a json_schema may not set x-guidance: it would loosen other keywords")
    refs = set(re.findall(r'"\$ref":"([^"]*)"', text))
    if outside := sorted(ref for ref in refs if not ref.startswith("#")):
        raise RequestError(f"$ref {outside[0]!r} leads out of the json_schema; define it inside")
    if levels > DEEPEST or levels * len(refs) > DEEPEST_LINKED:
        most = f"at most {DEEPEST}, and {DEEPEST_LINKED} when multiplied"
        raise RequestError(f"the json_schema has {levels} levels and {len(refs)} $refs, {most}")
    return text


class GrammarCompiler:
    """Makes grammars for one tokenizer; it holds no state of any request.

    Args:
        tokenizer: a `tokenizers.Tokenizer`, or a fast tokenizer of transformers around one.
        vocab_size: number V of logits. Those beyond the tokenizer's tokens are never allowed;
            tokens beyond the logits are left out of every mask.
        eos_ids: the tokens that end an answer, at least one.

    Raises:
        RequestError: llguidance is not installed.
        ModelError: llguidance cannot read the tokenizer, or an end token is not one of its.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, eos_ids: Sequence[int]) -> None:
        try:
            import llguidance  # heavy and optional
        except ImportError:
            raise RequestError("constraints need: pip install 'mindsd[grammar]'") from None
        self._library = llguidance
        self._vocab_size, self._ends = vocab_size, list(eos_ids)
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not isinstance(backend, Tokenizer):
            raise ModelError(f"constraints need a fast tokenizer, got {type(tokenizer).__name__}")
        own = Tokenizer.from_str(backend.to_str())  # a copy: the caller's keeps its padding
        own.no_padding()
        own.no_truncation()
        size = max(own.get_vocab().values(), default=-1) + 1  # ids may have gaps
        if not eos_ids or not all(0 <= token < min(size, vocab_size) for token in eos_ids):
            raise ModelError(f"end tokens {list(eos_ids)} are not below {min(size, vocab_size)}")
        try:
            padded = max(size, vocab_size)
            self._tokens = llguidance.LLTokenizer(own.to_str(), padded, self._ends)
        except ValueError as error:
            raise ModelError(f"constraints cannot use the tokenizer: {_line(error)}") from None

    def compile(self, constraint: Constraint) -> Grammar:
        """A new sequence's state, in milliseconds; a first step is tried on copies.

        Raises:
            RequestError: it is not well formed, not supported, can never be met, or is too complex.
        """
        limits = self._library.LLParserLimits(**LIMITS, verbose_errors=False)
        try:
            text = self._text(constraint)
            matcher = self._library.LLMatcher(self._tokens, text, log_level=0, limits=limits)
            if warnings := matcher.get_grammar_warnings():
                raise RequestError("; ".join(warnings))
            grammar = Grammar(matcher, self._vocab_size, self._ends)
            first = grammar.mask().nonzero().flatten()
            for token in first[[0, -1]].tolist():  # much is built only when a token is read
                grammar.copy().accept(token)
        except ValueError as error:  # a RequestError is one, too
            raise RequestError(f"the {constraint.kind} cannot be used: {_line(error)}") from None
        return grammar

    def _text(self, constraint: Constraint) -> str:
        matcher = self._library.LLMatcher
        if constraint.regex is not None:
            return matcher.grammar_from_regex(constraint.regex)
        if constraint.grammar is not None:
            return matcher.grammar_from_lark(constraint.grammar)
        if constraint.choice is not None:
            return matcher.grammar_from_lark(
                f"start: {'|'.join(map(json.dumps, constraint.choice))}"
            )
        schema = str(constraint.json_schema or '{"type":"object"}')
        return matcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": SPACES})


class Grammar:
    """What one sequence may go on with. Its methods raise RequestError at a limit of the parser."""

    def __init__(self, matcher: Any, vocab_size: int, ends: Sequence[int]) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._ends = list(ends)
        self._ended = False  # kept here: whether llguidance counts an end token depends
        self._accepted = 0
        self._check()

    @property
    def finished(self) -> bool:
        """Whether an end token was taken, or nothing but one may follow."""
        return self._ended or self._matcher.is_stopped()

    def mask(self) -> torch.Tensor:
        """The tokens that may come next: bool [V] on the CPU, True where allowed.

        End tokens are allowed only where the answer is complete. Raises RequestError if none is.
        """
        bits = numpy.frombuffer(self._matcher.compute_bitmask(), dtype=numpy.uint8)
        self._check()
        if self.finished:
            return torch.isin(torch.arange(self._vocab_size), torch.tensor(self._ends))
        allowed = numpy.unpackbits(bits, count=self._vocab_size, bitorder="little").view(bool)
        if not allowed.any():
            raise RequestError("no token of this model can go on; loosen the constraint")
        return torch.from_numpy(allowed)

    def accept(self, token: int) -> None:
        """Take a token; one that is not allowed raises RequestError and changes nothing."""
        if self.accepts([token]) == 0:
            raise RequestError(f"token {token} breaks the constraint at place {self._accepted}")
        self._accepted += 1
        self._ended = token in self._ends
        if not self._ended:
            self._matcher.consume_token(token)
            self._check()

    def rollback(self, count: int) -> None:
        """Forget the last `count` tokens, as if never accepted; RequestError if there are fewer."""
        if not 0 <= count <= self._accepted:
            raise RequestError(f"{count} of {self._accepted} tokens cannot be taken back")
        self._matcher.rollback(max(count - self._ended, 0))
        self._check()
        self._accepted -= count
        self._ended = self._ended and not count

    def accepts(self, tokens: Sequence[int]) -> int:
        """How many of a draft's tokens could be accepted in turn; nothing is taken."""
        self._check()
        if self.finished:
            return int(not self._ended and any(token in self._ends for token in tokens[:1]))
        strange = (i for i, token in enumerate(tokens) if not 0 <= token < self._vocab_size)
        count = self._matcher.validate_tokens(list(tokens[: next(strange, len(tokens))]))
        self._check()
        return count

    def copy(self) -> Grammar:
        """The same state for another sample of the request; neither changes the other."""
        other = copy(self)
        other._matcher = self._matcher.deep_copy()
        return other

    def _check(self) -> None:  # in an error llguidance itself would just let the answer end
        if self._matcher.is_error():
            reason = _line(self._matcher.get_error())
            raise RequestError(f"the constraint cannot be followed: {reason}")


def _levels(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_levels, parts), default=0) if isinstance(value, dict | list) else 0


def _line(reason: object) -> str:
    """llguidance's message as one line of at most 300 characters."""
    return " ".join(str(reason).replace("<non-verbose/>", "").split())[:300]

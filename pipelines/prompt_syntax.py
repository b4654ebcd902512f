r"""Prompts in the form that AUTOMATIC1111's web UI reads, as texts and their weights.

    (word)        1.1 times as strong; brackets in brackets multiply
    (word:1.3)    1.3 times as strong
    [word]        1.1 times weaker
    \( \) \[ \] \\    the character itself
    BREAK         what follows begins a new window of the text encoder

As there, a bracket that is never closed reaches to the end, and one that was never opened is text.
Its prompt editing, [a:b:0.5] and [a|b], is refused; its AND is a word like any other.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import NamedTuple

from mindsd.errors import RequestError

MOST_CHARACTERS = 8_000
DEEPEST = 32  # brackets in brackets
HEAVIEST = 10.0  # A1111 takes any number; beyond 2 little is left of a picture
STEP = 1.1  # what one pair of brackets multiplies or divides by

# Every branch is one character or a run that ends where the next begins: linear in the text.
TOKENS = re.compile(r"\\[()\[\]\\]|:\s*([+-]?[.0-9]+)\s*\)|[()\[\]]|[^\\()\[\]:]+|[\\:]")
BREAK = re.compile(r"\bBREAK\b")
EDITING = re.compile(r":\s*[.0-9]+\s*\]|(?<!\\)\[[^\[\]|]*\|")


class Part(NamedTuple):
    """A piece of a prompt; its weight is 1 where nothing is said."""

    text: str
    weight: float = 1.0


def parse(prompt: str) -> list[list[Part]]:
    """The parts of a prompt, neighbours of equal weight as one, in a list for every BREAK.

    Raises:
        RequestError: it is too long, its brackets are too deep, a weight is none, or it is edited.
    """
    if len(prompt) > MOST_CHARACTERS:
        raise RequestError(
            f"a weighted prompt has at most {MOST_CHARACTERS} characters, got {len(prompt)}"
        )
    if editing := EDITING.search(prompt):
        raise RequestError(
            f"{editing[0][:20]!r} is A1111's prompt editing, which mindsd does not have; "
            r"write \[ and \] for brackets that are text"
        )
    found = _weigh(prompt)
    sections: list[list[Part]] = [[]]
    for (weight, broken), pieces in groupby(found, lambda piece: (piece.weight, piece.broken)):
        texts = [piece.text for piece in pieces]
        if broken:
            sections += [[] for _ in texts]
        else:
            _check(weight, texts)
            sections[-1].append(Part("".join(texts), weight))
    if len(sections) > 1 and not sections[-1]:
        sections.pop()  # nothing follows the last BREAK
    return [section or [Part("")] for section in sections]


def wants_weighting(prompt: str) -> bool:
    """Whether `parse` reads anything in the prompt as more than text, or refuses it."""
    try:
        return parse(prompt) != [[Part(prompt)]]
    except RequestError:
        return True


def plain_text(sections: list[list[Part]]) -> str:
    """The prompt without its weights; a BREAK is a space."""
    return " ".join("".join(part.text for part in section) for section in sections)


class _Piece:
    """A text or, `broken`, a BREAK, whose weight is still multiplied."""

    def __init__(self, text: str, broken: bool = False):
        self.text = text
        self.weight = 1.0
        self.broken = broken


def _weigh(prompt: str) -> list[_Piece]:
    pieces: list[_Piece] = []
    opened: dict[str, list[int]] = {")": [], "]": []}  # where each open bracket began
    usual = {")": STEP, "]": 1 / STEP}

    def close(bracket: str, factor: float) -> None:
        for piece in pieces[opened[bracket].pop() :]:
            piece.weight *= factor

    for match in TOKENS.finditer(prompt):
        token, number = match[0], match[1]
        if token in "([":
            opened[")" if token == "(" else "]"].append(len(pieces))
            if sum(map(len, opened.values())) > DEEPEST:
                raise RequestError(
                    f"more than {DEEPEST} brackets of the prompt are open at once; "
                    r"write \( and \[ for brackets that are text"
                )
        elif number is not None and opened[")"]:
            close(")", _number(number))
        elif token in ")]" and opened[token]:
            close(token, usual[token])
        else:
            pieces += _text(token)
    for bracket, starts in opened.items():
        while starts:
            close(bracket, usual[bracket])
    return pieces


def _text(token: str) -> list[_Piece]:
    if token[0] == "\\" and len(token) == 2:
        return [_Piece(token[1])]
    first, *others = BREAK.split(token)
    texts = [first.rstrip() if others else first]
    texts += [text.strip() for text in others[:-1]] + [text.lstrip() for text in others[-1:]]
    pieces = [_Piece(texts[0])]
    for text in texts[1:]:
        pieces += [_Piece("", broken=True), _Piece(text)]
    return [piece for piece in pieces if piece.text or piece.broken]


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise RequestError(f"weight {text[:20]!r} of the prompt is not a number") from None
    if abs(number) > HEAVIEST:
        raise RequestError(_beyond(f"weight {text[:20]} of the prompt"))
    return number


def _check(weight: float, texts: list[str]) -> None:
    if abs(weight) > HEAVIEST:
        text = "".join(texts)[:20]
        raise RequestError(_beyond(f"the brackets around {text!r} make {weight:.4g}"))


def _beyond(what: str) -> str:
    return f"{what}: weights are {-HEAVIEST:g} to {HEAVIEST:g}, and beyond 2 pictures fall apart"

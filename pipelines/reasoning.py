"""What a model thinks before it answers, told apart from the answer: `<think>...</think>`.

This is the form of DeepSeek-R1, Qwen3 and most others. The thoughts come first or not at all: the
words `<think>` further on are the answer's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

OPEN, CLOSE = "<think>", "</think>"
REASONING, ANSWER = "reasoning", "answer"


class ReasoningStream:
    """Splits one answer while it comes; joined, the pieces are the same however the text is cut.

    White space round the thoughts, and before the answer that follows them, is left out.

    Args:
        opened: the prompt already ended with `<think>`, so the text begins inside the thoughts; a
            model that writes it again is understood.
    """

    def __init__(self, opened: bool = False) -> None:
        self._opened = opened
        self._kind: str | None = None  # not known before the first characters
        self._bare = True  # white space that comes now leads nothing
        self._held = ""  # not shown yet: perhaps a mark, or white space before one

    def push(self, text: str) -> list[tuple[str, str]]:
        """Take more text; the pieces that are certain now, as (kind, text), often none.

        The kind is "reasoning" or "answer", the text is never empty.
        """
        self._held += text
        return list(self._pieces(last=False))

    def finish(self) -> list[tuple[str, str]]:
        """The rest, once no more text comes. Thoughts that were never closed stay thoughts."""
        return list(self._pieces(last=True))

    def _pieces(self, last: bool) -> Iterator[tuple[str, str]]:
        if self._kind is None:
            self._begin(last)
        if self._kind == REASONING:
            thoughts, mark, rest = self._held.partition(CLOSE)
            sure = len(thoughts) - (0 if mark or last else doubtful(thoughts, [CLOSE]))
            shown = thoughts[:sure].rstrip()
            yield from self._shown(shown)
            self._held = rest if mark else "" if last else thoughts[len(shown) :]
            if mark:
                self._kind, self._bare = ANSWER, True
        if self._kind == ANSWER:
            yield from self._shown(self._held)
            self._held = ""

    def _begin(self, last: bool) -> None:
        """Decide by the first characters whether there are thoughts."""
        first = self._held.lstrip()
        if first.startswith(OPEN):
            self._kind, self._held = REASONING, first.removeprefix(OPEN)
        elif last or not OPEN.startswith(first):
            self._kind, self._bare = (REASONING, True) if self._opened else (ANSWER, False)

    def _shown(self, text: str) -> Iterator[tuple[str, str]]:
        text = text.lstrip() if self._bare else text
        if text and self._kind:
            self._bare = False
            yield self._kind, text


def split_reasoning(text: str, opened: bool = False) -> tuple[str | None, str]:
    """The thoughts, or None where there are none, and the answer of a whole text.

    Args:
        text: all that the model wrote.
        opened: the prompt already ended with `<think>`.
    """
    stream = ReasoningStream(opened)
    pieces = [*stream.push(text), *stream.finish()]
    parts = {kind: "".join(own for k, own in pieces if k == kind) for kind in (REASONING, ANSWER)}
    return parts[REASONING] or None, parts[ANSWER]


def doubtful(text: str, marks: Sequence[str]) -> int:
    """How many of the last characters may be the beginning of a mark."""
    most = min(len(text), max(map(len, marks)) - 1)
    return next((n for n in range(most, 0, -1) if any(m.startswith(text[-n:]) for m in marks)), 0)

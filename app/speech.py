"""One answer, shown while it comes: thoughts dimmed, nothing that would steer a terminal."""

from __future__ import annotations

import sys

from mindsd.pipelines.reasoning import ANSWER, ReasoningStream

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class Speech:
    """Writes to stdout. On a terminal thoughts are shown dimmed and control characters left out.

    Elsewhere thoughts are left out: what reads it wants the answer.

    Args:
        thinking: it begins inside the model's thoughts.

    Attributes:
        answer: what was said so far, without the thoughts.
    """

    def __init__(self, thinking: bool = False) -> None:
        self.answer = ""
        self._stream = ReasoningStream(thinking)
        self._terminal = is_terminal()
        self._dim = False

    def push(self, text: str) -> None:
        """Show more of it."""
        self._show(self._stream.push(text))

    def finish(self) -> None:
        """Show the rest, and end the line."""
        self._show(self._stream.finish())
        self._write(f"{PLAIN if self._dim else ''}\n")

    def _show(self, pieces: list[tuple[str, str]]) -> None:
        for kind, text in pieces:
            if kind == ANSWER:
                self.answer += text
            if not self._terminal:
                self._write(text if kind == ANSWER else "")
                continue
            self._write(self._turned(kind) + text.translate(CONTROLS))

    def _turned(self, kind: str) -> str:
        """What comes between thoughts and answer."""
        before, self._dim = self._dim, kind != ANSWER
        if before == self._dim:
            return ""
        return DIM if self._dim else f"{PLAIN}\n\n"

    def _write(self, text: str) -> None:
        if text:
            print(text, end="", flush=True)


def is_terminal() -> bool:
    """Whether people see what is printed."""
    return sys.stdout.isatty()

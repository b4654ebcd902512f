"""What goes wrong, told by a page: one sentence in a corner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from mindsd.errors import MindsdError

from ..server.refusal import Refusal, refusal_of

SECONDS = 8


@contextmanager
def toasts() -> Iterator[None]:
    """What is refused inside ends the handler with its sentence."""
    try:
        yield
    except (Refusal, MindsdError) as error:
        said = refusal_of(error).message
        raise gr.Error(said, duration=SECONDS, title="Not done", print_exception=False) from None


def warn(said: str) -> None:
    """A sentence of what failed while the handler goes on."""
    gr.Warning(said, duration=SECONDS)

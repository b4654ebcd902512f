"""A conversation with a model: lines in, answers out piece by piece.

Imports torch and transformers; the commands import this file when they run.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from mindsd.errors import Cancelled, EngineClosed, MindsdError, RequestError
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.request import Done, Event, Failed, Notice, Piece, Request

from .conversation import Conversation
from .interrupt import EXIT_CODE, Interrupt
from .speech import Speech, is_terminal
from .text_options import ChatOrder, check_text

Note = Callable[[str], None]


def load(order: ChatOrder) -> TextGeneration:
    """The order's model, which has to be one that talks.

    Raises:
        RequestError, ModelError: it is not, or cannot be loaded.
    """
    text = TextGeneration.load(order.model, device=order.device, dtype=order.dtype)
    if getattr(text.model.tokenizer, "chat_template", None):
        return text
    name = text.model.name
    text.close()
    raise RequestError(
        f"{name} has no chat template, so it cannot talk: it only goes on with texts; "
        "give these to mindsd complete"
    )


class Talk:
    """A conversation on a loaded model.

    Args:
        note: tells people something beside the answers.
    """

    def __init__(self, text: TextGeneration, order: ChatOrder, note: Note) -> None:
        self._text = text
        self._options = {k: v for k, v in order.sampling.items() if k != "max_tokens"}
        self._note = note
        self._noted: set[str] = set()
        tokenizer, room = text.model.tokenizer, text.model.room
        self.conversation = Conversation(tokenizer, room, order.max_tokens, order.system)

    def answer(self, said: str, interrupt: Interrupt) -> None:
        """Stream the answer to this; a signal stops it, and what was said by then is kept.

        Raises:
            MindsdError: it failed; nothing of it is kept.
        """
        live: list[Request] = []

        def stop() -> None:
            for request in live:
                request.cancel()

        interrupt.on_signal = stop
        check_text("message", said)
        question = self.conversation.ask(said)
        if question.dropped:
            self._note(f"no room for all: the oldest {_counted(question.dropped)} forgotten")
        options: dict[str, Any] = self._options | {"max_tokens": question.max_tokens}
        live.append(self._text.submit(question.messages, **options))
        if interrupt.requested:  # the signal may have come before there was something to stop
            stop()
        speech = Speech(question.thinking)
        last = self._shown(live[0], speech)
        if isinstance(last, Failed) and not isinstance(last.error, Cancelled):
            raise last.error
        self.conversation.answered(said, speech.answer)
        self._tell_end(last, speech)

    def _shown(self, request: Request, speech: Speech) -> Event | None:
        """Show all of an answer; its last event."""
        event = None
        try:
            for event in request.events():
                if isinstance(event, Piece):
                    speech.push(event.text)
                elif isinstance(event, Notice) and event.text not in self._noted:
                    self._noted.add(event.text)
                    self._note(event.text)
        finally:
            request.cancel()  # where nobody reads on; of no effect when it has ended
        speech.finish()
        return event

    def _tell_end(self, last: Event | None, speech: Speech) -> None:
        if not isinstance(last, Done):
            self._note("stopped")
            return
        [result] = last.result
        if result.finish_reason == "length":
            used = result.usage.completion
            self._note(f"cut after {used} tokens; --max-tokens says how many an answer may have")
        elif not speech.answer.strip():
            self._note("the model said nothing")


def converse(talk: Talk, note: Note) -> int:
    """Converse on a terminal until the user leaves; the exit code."""
    if is_terminal():
        with suppress(ImportError):  # some Pythons have none; with it lines can be edited
            import_module("readline")
    note("/new starts over, /quit or Ctrl-D leaves, Ctrl-C stops an answer")
    while (said := _asked()) is not None:
        word = said.strip()
        if word == "/quit":
            return 0
        if word == "/new":
            talk.conversation.restart()
            note("a new conversation")
        elif re.fullmatch(r"/\w+", word):
            note(f"there is no command {word}; there are /new and /quit")
        elif word and not _answered(talk, said, note):
            return EXIT_CODE
    return 0


def _asked() -> str | None:
    """The next line, None at the end."""
    try:
        if is_terminal():
            return input("> ")
        print("> ", end="", file=sys.stderr, flush=True)
        return input()
    except EOFError:
        print(file=sys.stderr)
        return None
    except UnicodeDecodeError:
        return "\udcff"  # no text: refused where it is asked


def _answered(talk: Talk, said: str, note: Note) -> bool:
    """Answer one line; False where the program is to end. What fails does not end it."""
    with Interrupt() as interrupt:
        try:
            talk.answer(said, interrupt)
        except EngineClosed:
            raise
        except MindsdError as error:
            note(" ".join(str(error).split()))
    return interrupt.signal != signal.SIGTERM


def _counted(exchanges: int) -> str:
    return "exchange is" if exchanges == 1 else f"{exchanges} exchanges are"

"""A conversation with a model: messages and pictures in, answers out piece by piece.

Imports torch and transformers; the commands import this file when they run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image

from mindsd.errors import Cancelled, RequestError
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.request import Done, Event, Failed, Notice, Piece, Request

from .conversation import Conversation
from .glance import Glance
from .interrupt import Interrupt
from .speech import Speech
from .text_options import ChatOrder, check_text

Note = Callable[[str], None]


def load(order: ChatOrder) -> TextGeneration:
    """The order's model, which has to be one that talks.

    Raises:
        RequestError, ModelError: it is not, or cannot be loaded.
    """
    device, dtype, layers = order.device, order.dtype, order.layers
    text = TextGeneration.load(order.model, device=device, dtype=dtype, layers=layers)
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

    Attributes:
        waiting: pictures that are shown with the next message.

    Raises:
        RequestError: the model cannot take the order's pictures.
    """

    def __init__(self, text: TextGeneration, order: ChatOrder, note: Note) -> None:
        self._text = text
        said = {name: own for name, own in order.sampling.items() if own is not None}
        self._options = {**(text.model.sampling or order.warmth), **said}
        self._note = note
        self._noted: set[str] = set()
        model = text.model
        glance = None if model.vision is None else Glance(model.vision)
        self.conversation = Conversation(
            model.tokenizer, model.room, order.max_tokens, order.system, glance
        )
        self.waiting: list[Image.Image] = []
        for picture in order.pictures:
            self.show(picture)

    @property
    def sees(self) -> bool:
        """Whether pictures can be shown."""
        return self.conversation.glance is not None

    def show(self, picture: Image.Image) -> int:
        """Show a picture with the next message; the tokens that it takes.

        Raises:
            RequestError: the model does not see, or cannot take this picture.
        """
        tokens = self.conversation.tokens_of(picture)
        self.waiting.append(picture)
        return tokens

    def restart(self) -> None:
        """Forget what was said and shown."""
        self.conversation.restart()
        self.waiting.clear()

    def answer(self, said: str, interrupt: Interrupt) -> None:
        """Stream the answer to this; a signal stops it, and what was said by then is kept.

        The pictures that wait are shown with it, and go on waiting where no answer came.

        Raises:
            MindsdError: it failed; nothing of it is kept.
        """
        live: list[Request] = []

        def stop() -> None:
            for request in live:
                request.cancel()

        interrupt.on_signal = stop
        check_text("message", said)
        question = self.conversation.ask(said, self.waiting)
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
        if self.conversation.answered(said, speech.answer, self.waiting):
            self.waiting.clear()
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


def _counted(exchanges: int) -> str:
    return "exchange is" if exchanges == 1 else f"{exchanges} exchanges are"

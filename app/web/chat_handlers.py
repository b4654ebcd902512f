"""What happens when something of the chat tab is used. One object for all pages of a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..server.chat_body import ChatBody
from ..server.chat_task import ChatTask
from ..server.model_choice import choose_model
from ..server.refusal import Refusal
from ..server.text_body import MAX_TEMPERATURE, MOST_TOKENS
from ..server.uploads import MAX_BYTES, TOO_LONG, read_upload
from .image_form import refusal_of_form
from .status import line
from .studio import Desk, Studio
from .submitting import submit
from .talk import Picture, Turn
from .toast import toasts, warn
from .typed import real, whole

PAUSE = 0.05  # seconds between two looks at what is written
MOST_PICTURES = 8  # of one message
OPTIONS = ("model", "system", "max_tokens", "temperature")
LABELS = {"max_tokens": "most tokens", "messages": "the message"}


class ChatHandlers:
    """Methods take and give the values of Gradio's components."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def models(self) -> list[str]:
        """Those that only write first: they talk of more than a picture."""
        return [*self._studio.models("text"), *self._studio.models("vision")]

    def seeing(self, chosen: str | None) -> str | None:
        """The chosen model where it sees pictures, else one that does, if there is one."""
        seeing = self._studio.models("vision")
        return chosen if chosen in seeing or not seeing else seeing[0]

    async def say(self, desk_id: Any, message: Mapping[str, Any], *options: Any) -> tuple[Any, Any]:
        """Begin to answer a message; the desk's id, and an empty message."""
        desk = self._studio.desk(desk_id)
        with toasts():
            text, files = message.get("text") or "", message.get("files") or []
            if not text.strip() and not files:
                raise Refusal(400, "invalid_request", "write something first")
            turn = Turn("user", text, await asyncio.to_thread(_pictures, files))
            await self._answer(desk, turn, dict(zip(OPTIONS, options, strict=True)))
        return desk.id, None

    async def again(self, desk_id: Any, *options: Any) -> Any:
        """Write the last answer anew; the desk's id."""
        desk = self._studio.desk(desk_id)
        with toasts():
            if not desk.talk.turns:
                raise Refusal(400, "invalid_request", "nothing was said yet")
            await self._answer(desk, None, dict(zip(OPTIONS, options, strict=True)))
        return desk.id

    async def watch(self, desk_id: Any) -> AsyncIterator[tuple[Any, Any]]:
        """The conversation and its state, as it goes on, until nothing is written any more."""
        desk = self._studio.desk(desk_id)
        while True:
            change, job = desk.change, desk.talk.job
            yield _shown(desk), self._state(desk)
            if job is None:
                break
            await asyncio.sleep(PAUSE)
            await change.wait()
        if desk.talk.trouble is not None:
            warn(desk.talk.trouble)
            desk.talk.trouble = None

    def stop(self, desk_id: Any) -> None:
        self._studio.desk(desk_id).talk.stop()

    def clear(self, desk_id: Any) -> tuple[list[Any], str]:
        desk = self._studio.desk(desk_id)
        desk.talk.clear()
        desk.changed()
        return [], ""

    async def _answer(self, desk: Desk, turn: Turn | None, options: dict[str, Any]) -> None:
        talk, service = desk.talk, self._studio.service
        talk.check(turn)
        turns = list(talk.turns)
        while turn is None and turns and turns[-1].role == "assistant":
            turns.pop()
        turns += [] if turn is None else [turn]
        body = _body(turns, options)
        entry = await asyncio.to_thread(choose_model, service.hub, body.model, "text", "vision")
        task = ChatTask(body)
        job, told = await submit(service, "chat", entry.id, 1, task)
        talk.turns, talk.job, talk.trouble = turns, job, None
        self._studio.spawn(talk.follow(job, task, told, desk.changed))
        desk.changed()

    def _state(self, desk: Desk) -> str:
        job = desk.talk.job
        if job is None:
            return ""
        if job.state == "queued":
            before = self._studio.service.place(job)
            return line("Waiting" + (f", {before} before it" if before else ""))
        return line("Writing")


def _body(turns: list[Turn], options: dict[str, Any]) -> ChatBody:
    """The API's body.

    Raises:
        Refusal: the first thing that is wrong with it.
    """
    system = options.pop("system")
    messages = [{"role": "system", "content": system}] if system else []
    messages += [own.as_message() for own in turns]
    options["max_tokens"] = whole("most tokens", options["max_tokens"], 1, MOST_TOKENS)
    options["temperature"] = real("temperature", options["temperature"], 0, MAX_TEMPERATURE)
    said = {name: own for name, own in options.items() if own not in (None, "")}
    try:
        return ChatBody.model_validate({**said, "messages": messages, "stream": True})
    except ValidationError as error:
        raise refusal_of_form(error, LABELS) from None


def _pictures(files: list[str]) -> tuple[Picture, ...]:
    """What was attached, seen to be pictures."""
    if len(files) > MOST_PICTURES:
        said = f"{len(files)} pictures are too many for one message, at most {MOST_PICTURES}"
        raise Refusal(400, "invalid_request", said)
    found = []
    for file in map(Path, files):
        if file.stat().st_size > MAX_BYTES:
            raise TOO_LONG
        found.append(Picture(str(file), file.read_bytes()))
        read_upload(found[-1].data)
    return tuple(found)


def _shown(desk: Desk) -> list[Any]:
    """The conversation for `gr.Chatbot`."""
    told: list[Any] = []
    for own in desk.talk.turns:
        if own.thoughts:
            told.append(_message(own, own.thoughts, metadata={"title": "Thoughts"}))
        for picture in own.pictures:
            if Path(picture.file).exists():
                file = {"path": picture.file, "alt_text": "a picture of the conversation"}
                told.append(_message(own, file))
        text = own.text + (f"\n\n*{own.note}*" if own.note else "")
        if text:
            told.append(_message(own, text))
    return told


def _message(turn: Turn, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": turn.role, "content": content, **more}

"""A conversation on a desk: what was said, and the answer that is being written."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

from ..server.chat_task import ChatTask
from ..server.job import Job, Told
from ..server.refusal import Refusal

MOST_TURNS = 200
MOST_BYTES = 64 * 2**20  # of all its pictures


@dataclass(eq=False)
class Picture:
    """A picture that was shown: its file, which pages may fetch, and what is in it."""

    file: str
    data: bytes

    @property
    def url(self) -> str:
        return f"data:image/png;base64,{b64encode(self.data).decode('ascii')}"


@dataclass(eq=False)
class Turn:
    """What one of the two said.

    Attributes:
        thoughts: what a model thought before it spoke.
        note: why an answer ends where it does, where it is not of itself.
    """

    role: Literal["user", "assistant"]
    text: str
    pictures: tuple[Picture, ...] = ()
    thoughts: str = ""
    note: str = ""

    def as_message(self) -> dict[str, Any]:
        """In the API's form."""
        if not self.pictures:
            return {"role": self.role, "content": self.text}
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": own.url}} for own in self.pictures
        ]
        if self.text:
            parts.append({"type": "text", "text": self.text})
        return {"role": self.role, "content": parts}


class Talk:
    """Lives on the event loop, whether or not a page looks at it.

    Attributes:
        turns: what was said, the oldest first.
        job: that writes the last turn; None where nothing is being written.
        trouble: why there is no answer; None where there is one.
    """

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.job: Job | None = None
        self.trouble: str | None = None

    def check(self, turn: Turn | None) -> None:
        """See that it may go on, with this turn.

        Raises:
            Refusal: an answer is being written, or it has grown too long.
        """
        if self.job is not None:
            raise Refusal(409, "busy", "an answer is being written; stop it first")
        turns = self.turns if turn is None else [*self.turns, turn]
        size = sum(len(own.data) for each in turns for own in each.pictures)
        if len(turns) > MOST_TURNS or size > MOST_BYTES:
            raise Refusal(400, "too_long", "the conversation has grown too long; clear it")

    def stop(self) -> None:
        """What is written so far stays."""
        if self.job is not None:
            self.job.cancel()

    def clear(self) -> None:
        self.stop()
        self.turns = []
        self.trouble = None

    async def follow(
        self, job: Job, task: ChatTask, told: AsyncIterator[Told], changed: Callable[[], None]
    ) -> None:
        """See an answer through; it becomes the last turn."""
        answer, begun = Turn("assistant", ""), False
        self.turns.append(answer)
        async with job:
            async for place, event in told:
                begun = begun or bool(task.begin())
                for choice in task.tell(place, event):
                    answer.text += choice["delta"].get("content") or ""
                    answer.thoughts += choice["delta"].get("reasoning_content") or ""
                    if choice["finish_reason"] == "length":
                        answer.note = "cut off: it has reached the most tokens"
                changed()
            await job.wait()
        if job.state == "cancelled":
            answer.note = "stopped"
        elif job.refusal is not None:
            self.trouble = job.refusal.message
        if not (answer.text or answer.thoughts or answer.note) and answer in self.turns:
            self.turns.remove(answer)
        self.job = None
        changed()

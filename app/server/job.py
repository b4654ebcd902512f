"""A job: what one HTTP call or one click asked for, from its admission to its end.

    queued -> running -> done | failed | cancelled

It may be several requests of the engine (n images, n answers). Their events come from the engine's
thread and are told here on the event loop's; everything else of a job happens on the loop.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from mindsd.errors import MindsdError
from mindsd.request import Done, Event, Failed, Request, Started, Step

from .refusal import GONE, STOPPED, Refusal, refusal_of
from .threads import on_thread

State = Literal["queued", "running", "done", "failed", "cancelled"]
Told = tuple[int, Event]  # which of a job's requests, and what happened to it


@dataclass(eq=False)
class Job:
    """One job. Made on the event loop, which alone may use it.

    It is remembered for long after its end, so it then holds nothing that is large: neither the
    model and the requests it ran, nor an error with the frames it passed, nor, once it was left as
    a context, its results.

    Attributes:
        kind: "image", "chat" or "completion".
        model: the id that was asked for.
        id: what the client knows it by.
        created: seconds since 1970.
        began: `time.perf_counter` of then.
        on_event: told of everything, before those who follow.
        on_over: each called once, when nothing of it runs any more.
        steps: (done, total) of each image.
        refusal: why it has no result; None for as long as that is open.
        error: what it failed of, for those of `on_over`; None where it did not.
        results: of each request; complete when the state is "done", and until it is left.
        ended: seconds since 1970 of its end.
    """

    kind: str
    model: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: float = field(default_factory=time.time)
    began: float = field(default_factory=time.perf_counter)
    on_event: Callable[[Job, int, Event], None] | None = None
    on_over: list[Callable[[Job], None]] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    refusal: Refusal | None = None
    error: BaseException | None = None
    results: list[Any] = field(default_factory=list)
    ended: float | None = None
    _requests: Sequence[Request] = ()
    _started: bool = False
    _left: int = 0
    _followers: list[asyncio.Queue[Told | None]] = field(default_factory=list)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _settled: asyncio.Event = field(
        default_factory=asyncio.Event
    )  # over, or it will have no result
    _starting: asyncio.Task[None] | None = None

    @property
    def state(self) -> State:
        if self.ended is None:
            return "running" if self._started else "queued"
        if self.refusal is None:
            return "done"
        return "cancelled" if self.refusal.status in (STOPPED.status, GONE.status) else "failed"

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def start(
        self,
        submit: Callable[[], Iterable[Request]],
        ready: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Submit on a thread: prompts are tokenised there, which takes time.

        Args:
            submit: gives the requests one by one; when it fails, those before are cancelled.
            ready: waited for before, as for a model that loads.
        """
        self._starting = asyncio.create_task(self._start(submit, ready))

    def cancel(self, reason: Refusal = STOPPED) -> None:
        """End it with this reason, at the next step or token; of no effect when it is over."""
        if self.over:
            return
        self.refusal = self.refusal or replace(reason)
        self.results = []
        for request in self._requests:
            request.cancel()
        self._settle()
        if self._starting is None:
            self._finish()

    def follow(self) -> AsyncIterator[Told]:
        """Every event from now on, until it is over or will have no result (`refusal`)."""
        queue: asyncio.Queue[Told | None] = asyncio.Queue()
        if self._settled.is_set():
            queue.put_nowait(None)
        self._followers.append(queue)
        return self._read(queue)

    async def wait(self) -> None:
        """Until nothing of it runs any more."""
        await self._over.wait()

    async def finished(self) -> list[Any]:
        """The results of all its requests.

        Raises:
            Refusal: why there are none, as soon as that is known.
        """
        await self._settled.wait()
        self.check()
        return self.results

    def check(self) -> None:
        """Refuse to go on with a job that will have no result.

        Raises:
            Refusal: a fresh one, for what is raised holds every frame that it passes.
        """
        if self.refusal is not None:
            raise replace(self.refusal)

    async def __aenter__(self) -> Job:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.leave(error)

    def leave(self, error: BaseException | None = None) -> None:
        """It is not wanted any more; where it was left for an error, that is why it has no end."""
        known = isinstance(error, Refusal | MindsdError)
        self.cancel(refusal_of(error) if known else STOPPED)
        self.results = []

    async def _start(
        self,
        submit: Callable[[], Iterable[Request]],
        ready: Callable[[], Awaitable[None]] | None,
    ) -> None:
        try:
            if ready is not None:
                await ready()
            wanted = self.refusal is None
            requests = await on_thread(None, _submitted, submit) if wanted else []
        except Exception as error:
            self.error, self.refusal = error, self.refusal or replace(refusal_of(error))
            self._finish()
            return
        self._requests, self._left = requests, len(requests)
        self.steps, self.results = [(0, 0)] * len(requests), [None] * len(requests)
        for place, request in enumerate(requests):
            request.redirect(partial(self._hear, asyncio.get_running_loop(), place))
        if self.refusal is not None:  # cancelled before there was something to cancel
            for request in requests:
                request.cancel()
        if not requests:
            self._finish()

    def _hear(self, loop: asyncio.AbstractEventLoop, place: int, event: Event) -> None:
        """On the engine's thread."""
        loop.call_soon_threadsafe(self._take, place, event)

    def _take(self, place: int, event: Event) -> None:
        """An event of one of its requests."""
        if isinstance(event, Started):
            self._started = True
        elif isinstance(event, Step):
            self.steps[place] = (event.done, event.total)
        elif isinstance(event, Done) and self.refusal is None:
            self.results[place] = event.result
        elif isinstance(event, Failed):
            self.error = self.error or event.error
            self.cancel(refusal_of(event.error))  # the others would be for nothing
        if self.on_event is not None:
            self.on_event(self, place, event)
        for queue in self._followers:
            queue.put_nowait((place, event))
        if isinstance(event, Done | Failed):
            self._left -= 1
            if self._left == 0:
                self._finish()

    def _settle(self) -> None:
        if not self._settled.is_set():
            self._settled.set()
            for queue in self._followers:
                queue.put_nowait(None)

    def _finish(self) -> None:
        self.ended = time.time()
        self._over.set()
        self._settle()
        for listener in self.on_over:
            listener(self)
        self.error, self.on_over, self._requests, self._followers = None, [], (), []

    async def _read(self, queue: asyncio.Queue[Told | None]) -> AsyncIterator[Told]:
        try:
            while (told := await queue.get()) is not None:
                yield told
        finally:
            with suppress(ValueError):
                self._followers.remove(queue)


def _submitted(submit: Callable[[], Iterable[Request]]) -> list[Request]:
    requests: list[Request] = []
    try:
        for request in submit():
            requests.append(request)
    except BaseException:
        for request in requests:
            request.cancel()
        raise
    return requests

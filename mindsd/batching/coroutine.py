"""Requests as coroutines: a batchable module called inside one suspends it.

body -> pipeline -> unet(...)      the engine's thread, in the request's greenlet
                      | switch(Call)
                      v
                   engine           gathers, runs a group
                      | switch(rows)
                      v
body <- pipeline <- unet(...)      goes on as if it had called the module itself
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from greenlet import GreenletExit, getcurrent, greenlet

from mindsd.batching.call import Batchable, read
from mindsd.batching.turn import Asked
from mindsd.device import is_out_of_memory
from mindsd.errors import Cancelled, OutOfMemory, RequestError
from mindsd.request import Done, Failed, Request
from mindsd.wrap import Wrap, wrap, wraps_of

AUTOCAST = ("cpu", "cuda", "privateuseone")  # the last is what torch calls torch_npu's


def make_batchable(
    owner: object, method: str, kind: str, name: str = "module", rounded: bool = False
) -> Wrap:
    """Let every engine run `owner.method` for many requests at once.

    Called inside a request the method suspends it; called anywhere else it runs as always.

    Args:
        owner: a module; only this instance is touched.
        method: "forward", or the method that pipelines call ("decode").
        kind: "text", "denoise" or "image"; the engine is fair between kinds.
        name: what people call it, for warnings.
        rounded: see `Batchable`.
    """
    batchable = Batchable(getattr(owner, method), kind, name, rounded)

    def suspend(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        here = getcurrent()
        if not isinstance(here, _Body) or here.must_go_on():
            return original(*args, **kwargs)
        call = read(batchable, args, kwargs)
        if call is None:
            return original(*args, **kwargs)
        assert here.parent is not None
        return here.parent.switch(call)

    suspend.batchable = batchable  # pyright: ignore[reportFunctionMemberAccess]
    return wrap(owner, method, suspend)


def is_batchable(owner: object) -> bool:
    """Whether some method of `owner` is open to engines."""
    return any(hasattr(own.function, "batchable") for own in wraps_of(owner))


@dataclass(frozen=True)
class Outcome:
    """What a call came to: a value, or the error that is raised where it was made."""

    value: Any = None
    error: BaseException | None = None


class Coroutine:
    """A request that was admitted, and the call it waits for.

    Attributes:
        request: whose body runs.
        arrival: when its present call was made, in calls of the whole engine.
        end: how the body ended; None while it lives.
    """

    def __init__(self, request: Request):
        self.request = request
        self.arrival = 0
        self.end: Done | Failed | None = None
        self._call: Asked | None = None
        self._body = _Body(_tell)
        self._body.request = request

    @property
    def call(self) -> Asked:
        """The call it waits for; only while it is suspended."""
        assert self._call is not None
        return self._call

    @property
    def order(self) -> tuple[int, int]:
        """Smaller goes first: higher priority, then the older call."""
        return (-self.request.need.priority, self.arrival)

    def start(self, arrival: int) -> None:
        """Run to the first call of a batchable module, or to the end."""
        self._said(self._body.switch(self.request), arrival)

    def resume(self, outcome: Outcome, arrival: int) -> None:
        """Give the call its outcome; run to the next call, or to the end."""
        self._call = None
        if outcome.error is not None:
            self._said(self._body.throw(outcome.error), arrival)
        else:
            self._said(self._body.switch(outcome.value), arrival)

    def _said(self, said: Any, arrival: int) -> None:
        if self._body.dead:
            self.end = said
        else:
            self._call, self.arrival = said, arrival


def ask(asked: Asked) -> Any:
    """Suspend the request whose body calls this until what it asks for is done.

    Raises:
        RequestError: called outside of a request's body.
        Exception: what it came to.
    """
    here = getcurrent()
    if not isinstance(here, _Body) or here.parent is None:
        raise RequestError("this goes on inside an engine only: submit a request to one")
    return here.parent.switch(asked)


class _Body(greenlet):
    """The greenlet in which a request's body runs."""

    request: Request

    def must_go_on(self) -> bool:
        """Whether a call may not be suspended here.

        A solo request never is. Autocast belongs to the thread: suspended inside it, a request
        would hand its precision to all others.
        """
        if self.request.need.solo:
            self.request.stop_if_cancelled()
        return self.request.need.solo or _in_autocast()


def _in_autocast() -> bool:
    return any(torch.is_autocast_enabled(kind) for kind in AUTOCAST)


def _tell(request: Request) -> Done | Failed:
    """Run the body and say how it ended; nothing that it raises passes this line."""
    try:
        return Done(request.run(), request.seconds())
    except Cancelled as cancelled:
        return Failed(Cancelled(*cancelled.args))  # a fresh one: it holds no frames of the body
    except GreenletExit:
        raise
    except BaseException as error:  # a tokenizer's panic or SystemExit is the request's own, too
        traceback.clear_frames(error.__traceback__)  # keeps the lines, lets the tensors go
        if is_out_of_memory(error) and not isinstance(error, OutOfMemory):
            return Failed(OutOfMemory(f"the request does not fit in memory even alone ({error})"))
        return Failed(error)

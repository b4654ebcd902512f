"""The adapters of one model: loaded, used by requests, removed.

Layers that some adapter changes are wrapped, each on the instance; the weights stay as they are.
"""

from __future__ import annotations

import difflib
import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakSet

from torch import Tensor

from mindsd.errors import RequestError
from mindsd.request import Request
from mindsd.weights.lora import LoraLayer
from mindsd.wrap import Wrap, wrap

_numbers = itertools.count(1)


@dataclass(eq=False)
class Adapter:
    """One that is loaded.

    Attributes:
        key: no two loadings have the same, so that whatever was cached with an adapter of this
            name that is gone is not found.
        layers: by the places of the modules that they belong to.
        users: requests that run with it, or did; none is kept for it, nor what it came to.
    """

    key: str
    layers: Mapping[str, LoraLayer]
    users: WeakSet[Request] = field(default_factory=WeakSet)

    @property
    def live(self) -> list[Request]:
        return [request for request in self.users if not request.ended]


class AdapterSet(ABC):
    """The adapters of one model; safe to use from any thread. Nothing is done to it before `add`.

    Attributes:
        noun: what people call one.
    """

    noun = "adapter"

    def __init__(self) -> None:
        self._named: Mapping[str, Adapter] = {}  # never changed in place: forwards read it
        self._wraps: dict[str, Wrap] = {}
        self._lock = threading.RLock()
        self._closed = False

    @abstractmethod
    def _read(self, path: str | Path) -> Mapping[str, LoraLayer]:
        """The layers of an adapter, by their places."""

    @abstractmethod
    def _module(self, place: str) -> Any:
        """The module at a place."""

    @abstractmethod
    def _adapted(self, place: str) -> Callable[..., Tensor]:
        """What is put round its forward."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of those that are loaded, the oldest first."""
        return tuple(self._named)

    def add(self, name: str, path: str | Path) -> None:
        """Load an adapter.

        Raises:
            ModelError: it cannot be read, or is not for this model.
            RequestError: there is one of this name, or the name is none.
        """
        if not isinstance(name, str) or not name or not name.isprintable():
            raise RequestError(f"{self._a_noun}'s name is a text on one line, got {name!r}")
        self._check_free(name)
        layers = self._read(path)
        with self._lock:
            self._check_free(name)  # another thread may have been quicker
            self._named = {**self._named, name: Adapter(f"{name}#{next(_numbers)}", layers)}
            for place in layers.keys() - self._wraps.keys():
                self._wraps[place] = wrap(self._module(place), "forward", self._adapted(place))

    def remove(self, name: str) -> None:
        """Forget an adapter; layers that no other needs are as they were.

        Raises:
            RequestError: there is none of this name, or requests run with it.
        """
        with self._lock:
            if live := len(self._find(name).live):
                users = f"{live} request{'s' if live > 1 else ''}"
                raise RequestError(
                    f"{self.noun} {name!r} is in use by {users}; wait, or cancel first"
                )
            self._named = {other: own for other, own in self._named.items() if other != name}
            needed = {place for own in self._named.values() for place in own.layers}
            for place in self._wraps.keys() - needed:
                self._wraps.pop(place).remove()

    def hold(self, names: Sequence[str], submit: Callable[[list[Adapter]], Request]) -> Request:
        """The request that `submit(adapters)` gives; until it ends, they stay.

        Raises:
            RequestError: there is no adapter of one of these names.
        """
        with self._lock:
            adapters = [self._find(name) for name in names]
            request = submit(adapters)
            for own in adapters:
                own.users.add(request)
            return request

    def close(self) -> None:
        """Take everything off; requests that run with an adapter are cancelled first.

        Raises:
            RequestError: called by the thread that runs these requests, which cannot wait for them.
        """
        with self._lock:
            self._closed = True
            live = [request for own in self._named.values() for request in own.live]
        for request in live:
            request.cancel()
        for request in live:
            self._wait(request)
        for name in self.names:
            self.remove(name)

    @property
    def _a_noun(self) -> str:
        return f"{'an' if self.noun[0] in 'aeiou' else 'a'} {self.noun}"

    @staticmethod
    def _wait(request: Request) -> None:
        with suppress(Exception):
            request.result()
        if not request.ended:
            request.result()  # says why it cannot be waited for

    def _check_free(self, name: str) -> None:
        with self._lock:
            if self._closed:
                raise RequestError(f"these {self.noun}s were closed; load the model again")
            if name in self._named:
                raise RequestError(f"there is {self._a_noun} {name!r} already; remove it first")

    def _find(self, name: str) -> Adapter:
        if name in self._named:
            return self._named[name]
        near = difflib.get_close_matches(str(name), self._named, n=1)
        known = ", ".join(self._named) or "none"
        hint = f"did you mean {near[0]!r}?" if near else f"loaded are: {known}"
        raise RequestError(f"there is no {self.noun} {name!r}; {hint}")

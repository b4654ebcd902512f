"""Several LoRA adapters on one model at once, each for the tokens of its own sequences.

    row of a step    | d a | d - | d b | p p p a | p p - |       a, b: adapters; -: none
    adapter a          *                 * * *                   x[rows] @ A.T @ B.T is added
    adapter b                      *

The weights stay as they are: beside the model's own product each layer has two thin ones for every
adapter of the step, over its own tokens (as in S-LoRA, arXiv:2311.03285), and none where nobody has
an adapter.
"""

from __future__ import annotations

import difflib
import itertools
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from mindsd.errors import ModelError, RequestError
from mindsd.kvcache.step import Segment, Step, present_step
from mindsd.request import Request
from mindsd.weights.lora import LoraLayer, read_lora
from mindsd.wrap import Wrap, wrap

_numbers = itertools.count(1)


@dataclass(eq=False)
class Adapter:
    """One that is loaded.

    Attributes:
        key: what a segment calls it. No two loadings have the same, so that whatever was cached
            with an adapter of this name that is gone is not found.
        layers: by the names of the model's modules.
        users: requests that run with it, or did.
    """

    key: str
    layers: Mapping[str, LoraLayer]
    users: list[Request] = field(default_factory=list)

    @property
    def live(self) -> list[Request]:
        return [request for request in self.users if not request.ended]


class Adapters:
    """The adapters of one model; safe to use from any thread.

    Several of these may be on one model; each knows its own adapters alone.

    Args:
        model: a transformers decoder that runs packed. Nothing is done to it before `add`, and to
            its linear layers alone, each on the instance.
    """

    def __init__(self, model: Any):
        self._model = model
        self._named: dict[str, Adapter] = {}
        self._keyed: dict[str, Adapter] = {}
        self._wraps: dict[str, Wrap] = {}
        self._lock = threading.RLock()
        self._closed = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of those that are loaded, the oldest first."""
        with self._lock:
            return tuple(self._named)

    def add(self, name: str, folder: str | Path) -> None:
        """Load an adapter from a folder of peft's.

        Raises:
            ModelError: it cannot be read, or is not for this model (`read_lora`).
            RequestError: there is one of this name, or the name is none.
        """
        if not isinstance(name, str) or not name or not name.isprintable():
            raise RequestError(f"an adapter's name is a text on one line, got {name!r}")
        self._check_free(name)
        layers = read_lora(folder, self._model)
        with self._lock:
            self._check_free(name)  # another thread may have been quicker
            adapter = Adapter(f"{name}#{next(_numbers)}", layers)
            self._named[name] = self._keyed[adapter.key] = adapter
            for place in layers.keys() - self._wraps.keys():
                module = self._model.get_submodule(place)
                self._wraps[place] = wrap(module, "forward", self._adapted(place))

    def remove(self, name: str) -> None:
        """Forget an adapter; layers that no other needs are as they were.

        Raises:
            RequestError: there is none of this name, or requests run with it.
        """
        with self._lock:
            adapter = self._find(name)
            if live := len(adapter.live):
                users = f"{live} request{'s' if live > 1 else ''}"
                raise RequestError(f"adapter {name!r} is in use by {users}; wait, or cancel first")
            del self._named[name], self._keyed[adapter.key]
            needed = {place for own in self._named.values() for place in own.layers}
            for place in self._wraps.keys() - needed:
                self._wraps.pop(place).remove()

    def start(self, name: str, submit: Callable[[str], Request]) -> Request:
        """The request that `submit(key)` gives; until it ends, the adapter stays.

        Raises:
            RequestError: there is no adapter of this name.
        """
        with self._lock:
            adapter = self._find(name)
            request = submit(adapter.key)
            adapter.users = [*adapter.live, request]
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

    @staticmethod
    def _wait(request: Request) -> None:
        with suppress(Exception):
            request.result()
        if not request.ended:
            request.result()  # says why it cannot be waited for

    def _check_free(self, name: str) -> None:
        with self._lock:
            if self._closed:
                raise RequestError("these adapters were closed; load the model again")
            if name in self._named:
                raise RequestError(f"there is an adapter {name!r} already; remove it first")

    def _find(self, name: str) -> Adapter:
        if name in self._named:
            return self._named[name]
        near = difflib.get_close_matches(str(name), self._named, n=1)
        known = ", ".join(self._named) or "none"
        hint = f"did you mean {near[0]!r}?" if near else f"loaded are: {known}"
        raise RequestError(f"there is no adapter {name!r}; {hint}")

    def _adapted(self, place: str) -> Callable[..., Tensor]:
        """The forward of one linear layer: [..., in] -> [..., out]."""

        def adapted(original: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
            out = original(x)
            step = present_step()
            if step is None:
                return out
            for part in step.plan(self, lambda: self._parts(step)):
                if (layer := part.layers.get(place)) is not None:
                    out = part.add(layer, x, out)
            return out

        return adapted

    def _parts(self, step: Step) -> list[Part]:
        """What each adapter of a step works on."""
        segments: dict[str, list[Segment]] = {}
        for segment in step.segments:
            if segment.adapter in self._keyed:
                segments.setdefault(segment.adapter, []).append(segment)
        return [
            Part(self._keyed[key].layers, _rows(own, step.device), step.tokens)
            for key, own in segments.items()
        ]


@dataclass(frozen=True, eq=False)
class Part:
    """One adapter's share of a step.

    Attributes:
        layers: of the adapter.
        rows: its tokens in the step, a slice where they stand side by side.
        tokens: of the step.
    """

    layers: Mapping[str, LoraLayer]
    rows: slice | Tensor
    tokens: int

    def add(self, layer: LoraLayer, x: Tensor, out: Tensor) -> Tensor:
        """What the adapted layer gives, of its input and what the model's own gives."""
        flat, sums = x.flatten(0, -2), out.flatten(0, -2)
        if flat.shape[0] != self.tokens:
            raise ModelError(
                f"an adapted layer was given {flat.shape[0]} tokens of a step of {self.tokens}; "
                "adapters do not work on this model"
            )
        added = linear(linear(flat[self.rows], layer.a), layer.b)
        if isinstance(self.rows, slice):
            sums[self.rows] += added
        else:
            sums.index_add_(0, self.rows, added)
        return sums.view(out.shape)


def _rows(segments: list[Segment], device: torch.device) -> slice | Tensor:
    first, last = segments[0].start, segments[-1].stop
    if sum(segment.length for segment in segments) == last - first:
        return slice(first, last)
    places = [place for own in segments for place in range(own.start, own.stop)]
    return torch.tensor(places, device=device)

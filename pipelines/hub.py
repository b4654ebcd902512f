"""Many models on one engine: loaded when first asked for, kept while used, unloaded when idle."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from mindsd.batching.limits import Limits
from mindsd.device import find_device, free_cached
from mindsd.engine import Engine
from mindsd.errors import EngineClosed, ModelError, QueueFull, RequestError
from mindsd.pipelines.language_model import load_language
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.resident import Resident
from mindsd.pipelines.served_layers import check_served, word_for
from mindsd.pipelines.served_vaes import ServedVaes
from mindsd.pipelines.shelf import Entry, Shelf

MEMORY_SHARE = 0.8  # of what is free when the hub is made, for the activations of live images


@dataclass(frozen=True)
class HubOptions:
    """How models are kept.

    Attributes:
        device, dtype, attention, layers: as `load_model` and `load_language` take them, for every
            model; those that cannot have the word of `layers` run as with "auto".
        keep_alive: seconds after which an idle model is unloaded; None keeps it.
        most: models loaded at once; one more takes the place of the one idle for longest.
        vaes: autoencoders in place of the models' own.
    """

    device: str = "auto"
    dtype: str = "auto"
    attention: str = "auto"
    layers: str = "auto"
    keep_alive: float | None = 300.0
    most: int = 4
    vaes: ServedVaes = ServedVaes()

    def __post_init__(self) -> None:
        if self.most < 1 or (self.keep_alive is not None and not self.keep_alive >= 0):
            raise RequestError(f"most is at least 1 and keep_alive at least 0, got {self}")


class Hub:
    """The models of a shelf, and the one engine they run on. Safe to use from any thread.

    Args:
        told: is told, once for each model, what of the options it cannot have and why.

    Attributes:
        engine: that all requests run on; closed with the hub.

    Raises:
        RequestError: the device, or with it the word of `layers`, cannot be had.
        UnknownModel, ModelError: an autoencoder is for a model that is not there, or does not fit.
    """

    def __init__(
        self,
        shelf: Shelf,
        options: HubOptions | None = None,
        told: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.shelf = shelf
        self.options = options or HubOptions()
        place = find_device(self.options.device)
        check_served(self.options.layers, place, self.options.dtype)
        self.options.vaes.check(shelf)
        memory = int(MEMORY_SHARE * place.free())
        self.engine = Engine(Limits(memory=max(memory, 1)))
        self._residents: dict[str, Resident] = {}
        self._lock = threading.Lock()  # of the table; never held while a model loads
        self._loading = threading.Lock()  # one at a time: each measures what memory is left
        self._closed = False
        self._told = told
        self._noted: set[str] = set()  # what was told
        self._plain: set[str] = set()  # ids of models that cannot have the word of `layers`

    def enter(self, id: str) -> Resident:
        """The model of this id, loaded if it is not yet; it stays until `leave`.

        Raises:
            UnknownModel: there is none on the shelf.
            ModelError: it cannot be loaded.
            QueueFull: it must be loaded, and as many as may be are loaded and in use.
            EngineClosed: the hub was closed.
        """
        if (resident := self.enter_loaded(id)) is not None:
            return resident
        entry = self.shelf.find(id)
        with self._loading:
            if (resident := self.enter_loaded(id)) is not None:
                return resident
            self._make_room()
            resident = self._load(entry)
            with self._lock:
                resident.users += 1
                self._residents[id] = resident
            return resident

    def enter_loaded(self, id: str) -> Resident | None:
        """`enter` where nothing has to be waited for; None where the model is not loaded.

        Raises:
            EngineClosed: the hub was closed.
        """
        with self._lock:
            if self._closed:
                raise EngineClosed("the server is going down; ask again later")
            resident = self._residents.get(id)
            if resident is not None:
                resident.users += 1
            return resident

    def leave(self, resident: Resident) -> None:
        """One user of a model less."""
        with self._lock:
            resident.users -= 1
            resident.idle_since = time.monotonic()

    @contextmanager
    def lease(self, id: str) -> Iterator[Resident]:
        """`enter` and `leave`."""
        resident = self.enter(id)
        try:
            yield resident
        finally:
            self.leave(resident)

    def unload(self, id: str) -> bool:
        """Unload a model now; whether it was loaded.

        Raises:
            RequestError: it is in use.
        """
        with self._lock:
            if id not in self._residents:
                return False
            if users := self._residents[id].users:
                raise RequestError(f"{id} is in use by {users}; wait, or cancel first")
            gone = [self._residents.pop(id)]
        _drop(gone)
        return True

    def sweep(self) -> list[str]:
        """Unload what has been idle for longer than it is kept; the ids."""
        kept = self.options.keep_alive
        if kept is None:
            return []
        with self._lock:
            before = time.monotonic() - kept
            own = self._residents.items()
            old = [id for id, one in own if not one.users and one.idle_since <= before]
            gone = [self._residents.pop(id) for id in old]
        _drop(gone)
        return old

    def loaded(self) -> dict[str, int]:
        """The ids of the models that are loaded, and how many use each."""
        with self._lock:
            return {id: resident.users for id, resident in self._residents.items()}

    def close(self) -> None:
        """Cancel every request and unload everything."""
        with self._lock:
            self._closed = True
        self.engine.close()
        with self._loading, self._lock:
            gone = list(self._residents.values())
            self._residents.clear()
        _drop(gone)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _make_room(self) -> None:
        with self._lock:
            if len(self._residents) < self.options.most:
                return
            idle = {id: one.idle_since for id, one in self._residents.items() if not one.users}
            if not idle:
                said = f"{len(self._residents)} models are loaded and in use"
                raise QueueFull(f"{said}, no more fit; ask one of {', '.join(self._residents)}")
            gone = [self._residents.pop(min(idle, key=idle.__getitem__))]
        _drop(gone)

    def _load(self, entry: Entry) -> Resident:
        word = word_for(entry.kind, self.options.layers)
        if entry.id in self._plain:
            word = "auto"
        try:
            return self._made(entry, word)
        except (ModelError, RequestError) as error:
            if word in ("auto", "off"):
                raise
            reason = str(error)
        _collect()  # outside of the handler, where what was loaded is nobody's any more
        resident = self._made(entry, "auto")  # which fails as well where the word was not why
        self._plain.add(entry.id)
        self._note(f"{entry.id} runs as with layers='auto': {reason}")
        return resident

    def _made(self, entry: Entry, layers: str) -> Resident:
        device, dtype = self.options.device, self.options.dtype
        if entry.kind == "image":
            vae, reason = self.options.vaes.of(entry)
            if reason is not None:
                self._note(f"{entry.id} keeps its own autoencoder: {reason}")
            loaded = load_model(entry.source, device, dtype, self.options.attention, layers, vae)
        else:
            loaded = load_language(entry.source, device, dtype, layers=layers)
        return Resident(entry, loaded, self.engine)

    def _note(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._told(text)


def _drop(residents: list[Resident]) -> None:
    """Close what nobody else holds, and have its memory back before the next model needs it.

    A model and what is wrapped round it hold each other, so it goes only when garbage is collected.
    """
    if not residents:
        return
    while residents:
        residents.pop().close()
    _collect()


def _collect() -> None:
    gc.collect()
    free_cached()

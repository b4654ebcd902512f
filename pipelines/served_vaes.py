"""Which autoencoder stands in the place of which model's, in a server of many.

/models/taesd             for every model that draws and that it fits
sd15=/models/taesd        for the model sd15 alone
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.shelf import ID, Entry, Shelf
from mindsd.weights.autoencoder import AutoencoderFolder, check_fits, find_autoencoder
from mindsd.weights.folder import find_model

ALL = ""  # in place of an id


@dataclass(frozen=True)
class ServedVaes:
    """Folders of autoencoders by the ids of models, `ALL` for those without one of their own."""

    folders: Mapping[str, AutoencoderFolder] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """From PATH and ID=PATH.

        Raises:
            ModelError: a folder is none of an autoencoder, or is not safe to load.
            RequestError: two are for the same.
        """
        found: dict[str, AutoencoderFolder] = {}
        for text in texts:
            id, equals, path = text.partition("=")
            if not (equals and ID.fullmatch(id)):
                id, path = ALL, text
            if id in found:
                which = f"the model {id}" if id else "all models"
                raise RequestError(f"two autoencoders are said for {which}, one of the two")
            found[id] = find_autoencoder(path)
        return cls(found)

    def check(self, shelf: Shelf) -> None:
        """See that those for one model fit that one.

        Raises:
            UnknownModel, ModelError, RequestError: there is no such model, or it does not fit.
        """
        for id, own in self.folders.items():
            if id != ALL:
                self._fits(own, shelf.find(id))

    def of(self, entry: Entry) -> tuple[Path | None, str | None]:
        """The folder for a model, and why one that is for all does not stand in its own's place.

        Raises:
            ModelError, RequestError: the one that is said for this model does not fit it.
        """
        if entry.id in self.folders:
            self._fits(self.folders[entry.id], entry)
            return self.folders[entry.id].path, None
        if entry.kind != "image" or ALL not in self.folders:
            return None, None
        try:
            self._fits(self.folders[ALL], entry)
        except ModelError as reason:
            return None, str(reason)
        return self.folders[ALL].path, None

    def _fits(self, own: AutoencoderFolder, entry: Entry) -> None:
        if entry.kind != "image":
            raise RequestError(f"{entry.id} writes: it has no autoencoder that {own.name} could be")
        check_fits(own, find_model(entry.source))

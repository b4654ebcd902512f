"""A model that is loaded on an engine, and the pipelines that run it."""

from __future__ import annotations

import threading
import time
from typing import TypeVar

from mindsd.engine import Engine
from mindsd.errors import RequestError
from mindsd.pipelines.image import ImagePipeline
from mindsd.pipelines.image_to_image import ImageToImage
from mindsd.pipelines.inpaint import Inpaint
from mindsd.pipelines.language_model import LanguageModel
from mindsd.pipelines.model import LoadedModel
from mindsd.pipelines.shelf import Entry
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.pipelines.text_to_image import TextToImage

Pipeline = TypeVar("Pipeline", bound=ImagePipeline)


class Resident:
    """One loaded model; its pipelines are made when they are first asked for.

    Args:
        entry: what it is on the shelf.
        loaded: what the loader gave.
        engine: to run it on.

    Attributes:
        users: how many use it now; kept by the hub.
        idle_since: `time.monotonic` of when the last one left.
    """

    def __init__(self, entry: Entry, loaded: LoadedModel | LanguageModel, engine: Engine) -> None:
        self.entry = entry
        self.loaded = loaded
        self.users = 0
        self.idle_since = time.monotonic()
        self._engine = engine
        self._lock = threading.Lock()
        self._images: list[ImagePipeline] = []
        self._text: TextGeneration | None = None
        if isinstance(loaded, LoadedModel):
            assert self.text_to_image  # opened now, so that the first request does not wait
        else:
            self._text = TextGeneration(loaded, engine)

    @property
    def text_to_image(self) -> TextToImage:
        """Raises RequestError for a model that writes, as all of these do."""
        return self._drawing(TextToImage)

    @property
    def image_to_image(self) -> ImageToImage:
        return self._drawing(ImageToImage)

    @property
    def inpaint(self) -> Inpaint:
        return self._drawing(Inpaint)

    @property
    def text(self) -> TextGeneration:
        """Raises RequestError for a model that draws."""
        if self._text is None:
            raise RequestError(f"{self.entry.id} draws pictures, it does not write; ask another")
        return self._text

    def close(self) -> None:
        """Leave the model; it is as its libraries made it."""
        for pipeline in self._images:
            pipeline.close()
        if self._text is not None:
            self._text.close()

    def _drawing(self, kind: type[Pipeline]) -> Pipeline:
        if not isinstance(self.loaded, LoadedModel):
            raise RequestError(f"{self.entry.id} writes, it does not draw pictures; ask another")
        with self._lock:
            for pipeline in self._images:
                if type(pipeline) is kind:
                    return pipeline
            made = kind(self.loaded, self._engine)
            self._images.append(made)
            return made

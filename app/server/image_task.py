"""One call's images: from what was asked to requests of the engine, and from pixels to files."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

import structlog
from PIL import Image

from mindsd.config import SPEEDS, Acceleration
from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.fingerprint import fingerprint
from mindsd.pipelines.image import ImagePipeline
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.picture import fit_picture
from mindsd.pipelines.profile import Profile
from mindsd.pipelines.resident import Resident
from mindsd.pipelines.shelf import Shelf
from mindsd.request import Request

from ..drawing import settle
from ..picture_encoding import PictureEncoding
from ..picture_record import Record
from ..recording import record_of
from .edit_pictures import read_pictures
from .image_bodies import MAX_SIDE, ImageBody
from .refusal import Refusal, about
from .uploads import DECODERS

log = structlog.get_logger("mindsd.server")


class ImageTask:
    """What one call asks for. `decode`, `submit`, `file` and `partial` belong on threads.

    Args:
        body: what was asked.
        shelf: that has the adapters.
        files: of the given pictures by the pipelines' names, "image" and "mask_image"; none for a
            text alone.

    Attributes:
        asked: the parameters of every image.
        records: how each is made, complete when all are submitted.

    Raises:
        RequestError: the parameters cannot be.
        Refusal: no profile has the name of the speed.
    """

    readers = DECODERS

    def __init__(
        self, body: ImageBody, shelf: Shelf, files: Mapping[str, bytes] | None = None
    ) -> None:
        self.body = body
        self.asked = body.asked()
        self.records: list[Record] = []
        self._shelf = shelf
        self._profile = None if body.profile is None else _find_profile(shelf, body.profile)
        self._files = dict(files or {})
        self._pictures: dict[str, Image.Image] = {}
        self._hashes: dict[str, str] = {}

    @property
    def does(self) -> str:
        """What OpenAI's events call it."""
        return "image_edit" if self._files else "image_generation"

    @property
    def format(self) -> str:
        """Of the files."""
        return self.body.output_format or "png"

    def decode(self) -> None:
        """Read the given pictures.

        Raises:
            Refusal: one cannot be taken.
        """
        self._hashes = {name: sha256(data).hexdigest() for name, data in self._files.items()}
        self._pictures = read_pictures(self._files)
        self._files = dict.fromkeys(self._files, b"")  # large, and not looked at again

    def submit(self, resident: Resident) -> Iterator[Request]:
        """The engine's requests, one for each image.

        Raises:
            RequestError, Refusal: the model cannot do what is asked.
        """
        pipeline = self._pipeline(resident)
        self._bring_loras(pipeline)
        if self._profile is not None:
            tuned = self.body.over(_tuned(self._profile, pipeline))
            self.asked = [replace(one, acceleration=tuned) for one in self.asked]
        for one in self.asked:
            self.records.append(self._record(pipeline, resident, one))
        for one, record in zip(self.asked, self.records, strict=True):
            yield pipeline.submit(
                one,
                preview_every=self._preview_every(record.parameters),
                priority=self.body.priority or 0,
                **self._pictures,
            )

    def file(self, place: int, image: Image.Image) -> str:
        """A finished image in the format that was asked, as base64."""
        return _base64(self.body.encoding.encode(image, self.records[place]))

    def partial(self, place: int, rough: Image.Image) -> str:
        """A rough one, as large as the image will be."""
        whole = self.records[place].parameters
        assert whole.width and whole.height
        encoding = PictureEncoding(self.format, metadata=False)
        return _base64(encoding.encode(fit_picture(rough, (whole.width, whole.height))))

    def told(self, place: int) -> dict[str, Any]:
        """What every answer says of an image, in OpenAI's words and in its place."""
        whole = self.records[place].parameters
        return {
            "size": f"{whole.width}x{whole.height}",
            "quality": self.body.quality or "auto",
            "background": "opaque",
            "output_format": self.format,
        }

    def _pipeline(self, resident: Resident) -> ImagePipeline:
        try:
            if "mask_image" in self._pictures:
                return resident.inpaint
            return resident.image_to_image if self._pictures else resident.text_to_image
        except ModelError:
            does = "inpaint" if "mask_image" in self._pictures else "draw pictures anew"
            said = f"model {resident.entry.id} cannot {does}; take another, or leave the mask out"
            raise Refusal(400, "model_cannot", said, "model") from None

    def _record(self, pipeline: ImagePipeline, resident: Resident, one: ImageParameters) -> Record:
        with about("size"):
            whole = settle(pipeline, one, self._pictures.get("image"))
        if one.scheduler is not None:
            with about("scheduler"):
                pipeline.arguments.scheduler(one.scheduler)
        if max(whole.width or 0, whole.height or 0) > MAX_SIDE:
            said = f"{whole.width}x{whole.height} is over {MAX_SIDE} pixels a side; say a size"
            raise Refusal(400, "invalid_request", said, "size")
        record = record_of(pipeline.model, whole, self._hashes, resident.entry.id)
        try:
            self.body.encoding.check(record)
        except RequestError:
            said = "a jpeg cannot hold so long a prompt; take a png or webp, or metadata false"
            raise Refusal(400, "invalid_request", said, "output_format") from None
        return record

    def _bring_loras(self, pipeline: ImagePipeline) -> None:
        """Load the adapters that the model has not got yet; they stay with it."""
        named = [name for name, _ in self.asked[0].loras]
        known = self._shelf.loras() if named else {}
        for name in named:
            if name not in known:
                there = ", ".join(known) or "none"
                raise Refusal(400, "unknown_lora", f"no LoRA {name!r}; there are: {there}", "loras")
            if name in pipeline.loras:
                continue
            try:
                pipeline.add_lora(name, known[name])
            except ModelError:
                said = f"LoRA {name!r} does not fit the model, or cannot be read"
                raise Refusal(400, "wrong_lora", said, "loras") from None
            except RequestError:
                if name not in pipeline.loras:  # else another request was faster
                    raise

    def _preview_every(self, whole: ImageParameters) -> int:
        """Steps between partial images, which lie evenly; 0 for none."""
        wanted = self.body.partial_images or 0
        done = (whole.steps or 1) * (whole.strength or 1.0)
        return max(1, int(done) // (wanted + 1)) if wanted else 0


def _find_profile(shelf: Shelf, id: str) -> Path:
    known = shelf.profiles()
    if id not in known:
        names = [*SPEEDS, *known]
        near = get_close_matches(id, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
        raise Refusal(400, "unknown_speed", f"no speed {id!r}; {hint}", "speed")
    return known[id]


def _tuned(file: Path, pipeline: ImagePipeline) -> Acceleration:
    """A profile's acceleration, where it is this model's."""
    try:
        return Profile.read(file).acceleration_for(fingerprint(pipeline.pipe))
    except RequestError as error:
        log.info("profile not used", file=file.name, error=str(error))
        said = "the profile was tuned for another model, or cannot be read"
        raise Refusal(400, "wrong_profile", said, "speed") from None


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")

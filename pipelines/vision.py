"""What a vision-language model sees: pictures read, seen once, and put into a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import accumulate
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mindsd.aside import aside
from mindsd.batching.placeholders import Placeholders, check_apart, names_of, runs
from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.image_cache import ImageCache, SeenImage
from mindsd.pipelines.picture import Picture, read_picture
from mindsd.pipelines.vision_tower import PIXELS, VisionTower, sizes_of
from mindsd.tokenmerge.visual import VisualMerge

GRID = "image_grid_thw"
KEY_BYTES = 16
NARROWEST = 200  # as Qwen-VL bounds it


@dataclass(frozen=True, eq=False)
class ReadImage:
    """One picture, ready for the tower; the other attributes are as of `SeenImage`.

    Attributes:
        inputs: what the tower takes of it, each [1, ...].
    """

    key: bytes
    text: str
    tokens: int
    grid: Tensor | None
    inputs: dict[str, Tensor]


AnyImage = ReadImage | SeenImage


@dataclass(eq=False)
class Vision:
    """The eyes of one model.

    Attributes:
        model: of transformers.
        processor: of transformers, for that model.
        cache: what was seen before.
        tower: sees pictures.
        token: the word that stands for a picture in a chat template's text.
        token_id: the id that stands for one row of features.
    """

    model: Any
    processor: Any
    cache: ImageCache
    tower: VisionTower = field(init=False)
    token: str = field(init=False)
    token_id: int = field(init=False)

    def __post_init__(self) -> None:
        self.tower = VisionTower(self.model)
        self.token = self.processor.image_token
        self.token_id = self.model.config.image_token_id

    @property
    def counts_axes(self) -> bool:
        """Whether it counts in time, height and width (M-RoPE)."""
        return hasattr(self.model.base_model, "get_rope_index")

    def read(self, picture: Picture, salt: str = "") -> AnyImage:
        """A picture, seen before or ready for the tower.

        Args:
            salt: what was seen for others is not used.

        Raises:
            RequestError: it cannot be read, or the model's processor refuses it.
        """
        upright = read_picture(picture)
        width, height = upright.size
        if max(width, height) > NARROWEST * min(width, height):
            # Processors that fit the shorter side would make it larger than memory.
            raise RequestError(
                f"a picture of {width}x{height} is too narrow: at most {NARROWEST} times as long "
                "as wide; cut it"
            )
        key = _key(upright, salt)
        return self.cache.find(key) or self._processed(key, upright)

    def see(self, image: AnyImage, merge: VisualMerge | None = None) -> SeenImage:
        """The features of a picture; inside a request, those of several are seen together.

        Args:
            merge: how many of its tokens are left; None for all.
        """
        if merge is None:
            return image if isinstance(image, SeenImage) else self._seen(image)
        key = blake2b(image.key + str(merge).encode(), digest_size=KEY_BYTES).digest()
        return self.cache.known(key) or self.cache.keep(self.see(image).merged(merge, key))

    def _seen(self, image: ReadImage) -> SeenImage:
        found = self.cache.known(image.key)  # another request may have seen it meanwhile
        if found is not None:
            return found
        tower = self.tower
        sizes = sizes_of(image.inputs)
        inputs = {name: value.to(tower.device) for name, value in image.inputs.items()}
        key = torch.frombuffer(bytearray(image.key), dtype=torch.int64)[None]
        features = tuple(own[0] for own in tower(inputs.pop(PIXELS), inputs, sizes, key))
        if len(features[0]) != image.tokens:
            raise ModelError(
                f"the vision tower gave {len(features[0])} rows for a picture of {image.tokens} "
                "tokens; its processor belongs to another model"
            )
        own = SeenImage(image.key, image.text, image.tokens, image.grid, features)
        return self.cache.keep(own)

    def expanded(self, text: str, images: Sequence[AnyImage]) -> str:
        """A chat template's text with as many placeholders as its pictures need.

        Raises:
            RequestError: it has not one place for each picture.
        """
        places = text.count(self.token)
        if places != len(images):
            raise RequestError(
                f"the prompt has {places} places for {len(images)} pictures: {self.token} stands "
                "for a picture and cannot be said"
            )
        if not images:
            return text
        [told], _ = self.processor.get_text_with_replacements([text], [own.text for own in images])
        return told

    def check(self, ids: Sequence[int], images: Sequence[AnyImage]) -> None:
        """Refuse a prompt with placeholders that no picture of its stands behind."""
        found, wanted = ids.count(self.token_id), sum(own.tokens for own in images)
        if found != wanted:
            raise RequestError(
                f"the prompt has {found} places for the {wanted} tokens of its {len(images)} "
                f"pictures; token {self.token_id} cannot be said"
            )

    def shrunk(
        self, ids: Sequence[int], images: Sequence[AnyImage], merge: VisualMerge | None
    ) -> list[int]:
        """The prompt with as many placeholders as are left of its pictures."""
        if merge is None:
            return list(ids)
        places = [place for place, id in enumerate(ids) if id == self.token_id]
        gone, start = set(), 0
        for image in images:
            stop = start + image.tokens
            gone |= set(places[start + merge.left(image.tokens) : stop])
            start = stop
        return [id for place, id in enumerate(ids) if place not in gone]

    def placeholders(
        self, ids: Sequence[int], images: Sequence[SeenImage], *, see_each_other: bool = False
    ) -> Placeholders:
        """Where in a prompt what is seen.

        Args:
            ids: the prompt with all placeholders of its pictures, those that were merged as well.
            see_each_other: the tokens of a picture see all of it, not only what is before them.

        Raises:
            RequestError: pictures that see each other whole stand where they cannot.
        """
        names: list[int | None] = [None if id == self.token_id else id for id in ids]
        places = [place for place, name in enumerate(names) if name is None]
        start = 0
        for image in images:
            own, left = places[start : start + image.tokens], image.places
            for at, name in zip(left, names_of(image.key, len(left)), strict=True):
                names[own[at]] = name
            start += image.tokens
        stay = [place for place, name in enumerate(names) if name is not None]
        rotary, delta = None, 0
        if self.counts_axes:
            full, delta = self._rotary(ids, images)
            rotary, delta = full[:, stay], delta + len(ids) - len(stay)
        seen = [at for at, place in enumerate(stay) if ids[place] == self.token_id]
        columns = zip(*(image.features for image in images), strict=True)
        features = tuple(torch.cat(column) for column in columns)
        whole = tuple(runs(seen)) if see_each_other else ()
        if whole:
            firsts = accumulate((len(image.places) for image in images[:-1]), initial=0)
            check_apart(whole, [seen[first] for first in firsts], len(stay))
        left = [name for name in names if name is not None]
        return Placeholders(seen, features, left, whole, rotary, delta)

    def own_inputs(self, text: str, pictures: Sequence[Picture], **how: Any) -> dict[str, Any]:
        """What the model's own `forward` and `generate` take of a text with pictures.

        Raises:
            RequestError: the model's processor refuses them.
        """
        upright = [read_picture(picture) for picture in pictures]
        found = self._process(text, upright or None, **how)
        device = self.tower.device
        return {name: own.to(device) for name, own in found.items() if isinstance(own, Tensor)}

    def _processed(self, key: bytes, picture: Image.Image) -> ReadImage:
        done = self._process(self.token, [picture], return_text_replacement_offsets=True)
        [[told]] = done["text_replacement_offsets"]
        tokens = int((done["input_ids"] == self.token_id).sum())
        return ReadImage(key, told["replacement"], tokens, done.get(GRID), self.tower.inputs(done))

    def _process(self, text: str, pictures: Any, **how: Any) -> Any:
        try:
            return aside(
                lambda: self.processor(text=[text], images=pictures, return_tensors="pt", **how)
            )
        except MemoryError:
            raise
        except Exception as error:  # processors raise what they like about sizes they do not like
            first = str(error).strip().split("\n")[0] or type(error).__name__
            sizes = ", ".join("{}x{}".format(*own.size) for own in pictures or ()) or "the text"
            raise RequestError(f"the model's processor refuses {sizes}: {first}") from None

    def _rotary(self, ids: Sequence[int], images: Sequence[SeenImage]) -> tuple[Tensor, int]:
        """Positions in time, height and width, and what text after the prompt adds to its own."""
        here = torch.tensor([list(ids)])
        kinds = (here == self.token_id).to(torch.int32)
        grids = torch.cat([own.grid for own in images if own.grid is not None])
        found, delta = self.model.base_model.get_rope_index(
            here, mm_token_type_ids=kinds, image_grid_thw=grids
        )
        return found[:, 0], int(delta)


def _key(picture: Image.Image, salt: str) -> bytes:
    """128 bits of a hash of the pixels: pictures of equal keys look equal."""
    shape = f"{salt}\0{picture.mode} {picture.size}\0".encode()
    return blake2b(shape + picture.tobytes(), digest_size=KEY_BYTES).digest()

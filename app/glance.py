"""How many tokens pictures take in a prompt, each looked at once."""

from __future__ import annotations

import weakref

from PIL import Image

from mindsd.pipelines.image_cache import SeenImage
from mindsd.pipelines.picture import Picture
from mindsd.pipelines.vision import AnyImage, Vision


class Glance(Vision):
    """A model's `Vision` where the tokens of a prompt are counted and no more.

    A conversation is counted many times before it is asked: a picture goes through the processor
    once, and of what that gives only its text is kept.

    Args:
        vision: of the model; all but its pictures is shared.
    """

    def __init__(self, vision: Vision) -> None:
        self.__dict__.update(vision.__dict__)
        self._known: dict[int, tuple[weakref.ref[Image.Image], AnyImage]] = {}

    def read(self, picture: Picture, salt: str = "") -> AnyImage:
        """A picture without features; one in memory is known again, whatever the salt.

        Raises:
            RequestError: the model's processor refuses it.
        """
        own, known = self._known.get(id(picture), (None, None))
        if own is not None and known is not None and own() is picture:  # an id is given again
            return known
        image = super().read(picture, salt)
        glanced = SeenImage(image.key, image.text, image.tokens, image.grid, ())
        if isinstance(picture, Image.Image):
            self._known[id(picture)] = weakref.ref(picture), glanced
        return glanced

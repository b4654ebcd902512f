"""What several images come to: all of them, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.picture import Picture
from mindsd.request import Request


@dataclass(frozen=True)
class ImageResult:
    """Images (PIL, RGB) in the order of the prompts, and the parameters of each."""

    images: list[Image.Image]
    parameters: list[ImageParameters]


def wait_for_all(
    submit: Callable[..., Request],
    parameters: Sequence[ImageParameters],
    pictures: Sequence[Mapping[str, Picture]],
) -> ImageResult:
    """Submit all, wait for all; when one fails or the wait is interrupted, stop the rest."""
    requests: list[Request] = []
    try:
        for one, own in zip(parameters, pictures, strict=True):
            requests.append(submit(one, **own))
        return ImageResult([request.result() for request in requests], list(parameters))
    finally:
        for request in requests:
            if not request.ended:
                request.cancel()

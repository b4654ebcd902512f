"""Prompts with pictures, and the model's own logits of them: what packed ones are held against."""

from __future__ import annotations

from dataclasses import replace

import torch
from PIL import Image

from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.picture import Picture
from mindsd.pipelines.proof import Sample
from mindsd.pipelines.vision import Vision

SIZES = ((48, 32), (40, 56))  # pixels; two pictures in one prompt


@torch.inference_mode()
def pictures_alone(vision: Vision) -> Sample:
    """A prompt with two pictures, and the model's own logits of it.

    Raises:
        ModelError: the model does not see them as its processor gives them.
    """
    try:
        inputs = vision.own_inputs(_text(vision), _pictures())
        logits = vision.model(**inputs, use_cache=False).logits[0].float()
        return Sample(inputs["input_ids"][0].tolist(), logits)
    except RequestError as error:
        raise ModelError(f"no picture can be shown to it: {error}") from error


@torch.inference_mode()
def seen(vision: Vision, sample: Sample, *, see_each_other: bool = False) -> Sample:
    """The same with what the tower, as it is now, sees in the pictures.

    Raises:
        ModelError: it sees something else than its processor says.
    """
    try:
        images = [vision.see(vision.read(own)) for own in _pictures()]
        vision.check(sample.ids, images)
    except RequestError as error:
        raise ModelError(f"no picture can be shown to it: {error}") from error
    finally:
        vision.cache.clear()
    placed = vision.placeholders(sample.ids, images, see_each_other=see_each_other)
    return replace(sample, images=placed)


def _text(vision: Vision) -> str:
    return f"this {vision.token} and {vision.token} what is it"


def _pictures() -> list[Picture]:
    return [_gradient(*size) for size in SIZES]


def _gradient(width: int, height: int) -> Image.Image:
    """A picture no two parts of which look alike."""
    across = Image.linear_gradient("L").resize((width, height))
    down = across.transpose(Image.Transpose.ROTATE_90).resize((width, height))
    return Image.merge("RGB", (across, down, Image.radial_gradient("L").resize((width, height))))

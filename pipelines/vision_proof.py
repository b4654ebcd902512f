"""Prompts with pictures, and the model's own logits of them: what packed ones are held against."""

from __future__ import annotations

from dataclasses import replace

import torch
from PIL import Image

from mindsd.batching.placeholders import runs
from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.proof import Sample
from mindsd.pipelines.vision import Vision

SIZES = ((48, 32), (40, 56))  # pixels; two pictures in one prompt


@torch.inference_mode()
def pictures_alone(vision: Vision) -> list[Sample]:
    """A prompt with two pictures, read from left to right.

    Raises:
        ModelError: the model does not see them as its processor gives them.
    """
    pictures = [_gradient(*size) for size in SIZES]
    text = f"this {vision.token} and {vision.token} what is it"
    try:
        images = [vision.see(vision.read(own)) for own in pictures]
        inputs = vision.own_inputs(text, pictures)
        ids = inputs["input_ids"][0].tolist()
        vision.check(ids, images)
        logits = vision.model(**inputs, use_cache=False).logits[0].float()
        return [Sample(ids, logits, vision.placeholders(ids, images))]
    except RequestError as error:
        raise ModelError(f"no picture can be shown to it: {error}") from error
    finally:
        vision.cache.clear()


def see_each_other(sample: Sample) -> Sample:
    """The same, for a model whose pictures' tokens see all of their picture."""
    assert sample.images is not None
    whole = tuple(runs(sample.images.places))
    return replace(sample, images=replace(sample.images, whole=whole))


def _gradient(width: int, height: int) -> Image.Image:
    """A picture no two parts of which look alike."""
    across = Image.linear_gradient("L").resize((width, height))
    down = across.transpose(Image.Transpose.ROTATE_90).resize((width, height))
    return Image.merge("RGB", (across, down, Image.radial_gradient("L").resize((width, height))))

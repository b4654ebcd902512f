"""Prompts to images, by whatever pipeline class the model folder names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from mindsd.pipelines.image import ImagePipeline, ImageResult
from mindsd.pipelines.parameters import Wishes, several


class TextToImage(ImagePipeline):
    """Draws prompts. `TextToImage.load("tiny-sd")(["a red circle"], steps=20, seed=7).images`"""

    def __call__(self, prompts: str | Sequence[str], **wishes: Unpack[Wishes]) -> ImageResult:
        """Draw every prompt and wait. Image i has seed `seed + i`, whatever runs beside it.

        Args:
            prompts: one prompt or several.
            wishes: steps, guidance, seed, width, height, negative_prompt, images_per_prompt,
                scheduler, options; see `Wishes`.

        Raises:
            RequestError: an argument is wrong, or the model's pipeline does not take it.
            OutOfMemory: an image does not fit in memory even alone.
        """
        asked = several(prompts, **wishes)
        return self._run(asked, [{}] * len(asked))

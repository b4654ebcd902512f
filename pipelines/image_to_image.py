"""Pictures drawn anew by a prompt, by the model's own image-to-image pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import diffusers
from diffusers import DiffusionPipeline

from mindsd.pipelines.image import ImagePipeline, ImageResult
from mindsd.pipelines.parameters import Wishes, several
from mindsd.pipelines.picture import Picture, one_for_each
from mindsd.pipelines.related import related


class ImageToImage(ImagePipeline):
    """Draws pictures anew. `ImageToImage.load("tiny-sd")("a red circle", picture, strength=0.6)`"""

    @classmethod
    def _suitable(cls, pipe: DiffusionPipeline) -> DiffusionPipeline:
        # Looked up when it is needed: with it come all pipelines that diffusers knows.
        return related(diffusers.AutoPipelineForImage2Image, pipe, "image-to-image")

    def __call__(
        self,
        prompts: str | Sequence[str],
        pictures: Picture | Sequence[Picture],
        **wishes: Unpack[Wishes],
    ) -> ImageResult:
        """Draw each picture anew by its prompt and wait; one picture serves all prompts.

        Args:
            prompts: one prompt or several.
            pictures: PIL images or paths; without a size in `wishes` they keep their own.
            wishes: strength and all that `TextToImage` takes; see `Wishes`.

        Raises:
            RequestError: an argument or a picture is wrong, or their numbers do not agree.
            OutOfMemory: an image does not fit in memory even alone.
        """
        asked = several(prompts, **wishes)
        given = one_for_each("picture", pictures, len(asked), wishes.get("images_per_prompt", 1))
        return self._run(asked, [{"image": picture} for picture in given])

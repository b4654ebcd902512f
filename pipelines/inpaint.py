"""Parts of pictures drawn anew, by the model's own inpainting pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import diffusers
from diffusers import DiffusionPipeline

from mindsd.errors import ModelError
from mindsd.pipelines.image import ImagePipeline, ImageResult
from mindsd.pipelines.parameters import Wishes, several
from mindsd.pipelines.picture import Picture, one_for_each
from mindsd.pipelines.related import related

SD3_CHANNELS = (16, 33)  # of latents, and of latents with a mask and the masked picture


class Inpaint(ImagePipeline):
    """Draws what the mask shows in white. `Inpaint.load("tiny-sd")("a star", picture, mask)`"""

    @classmethod
    def _suitable(cls, pipe: DiffusionPipeline) -> DiffusionPipeline:
        # Looked up when it is needed: with it come all pipelines that diffusers knows.
        found = related(diffusers.AutoPipelineForInpainting, pipe, "inpainting")
        channels = getattr(getattr(found, "transformer", None), "config", {}).get("in_channels")
        sd3 = isinstance(found, diffusers.StableDiffusion3InpaintPipeline)
        if sd3 and channels not in SD3_CHANNELS:
            known = " or ".join(map(str, SD3_CHANNELS))
            raise ModelError(
                f"{type(found).__name__} of diffusers inpaints with {known} input channels, this "
                f"model has {channels}; redraw the whole picture, or take another model"
            )
        return found

    def __call__(
        self,
        prompts: str | Sequence[str],
        pictures: Picture | Sequence[Picture],
        masks: Picture | Sequence[Picture],
        **wishes: Unpack[Wishes],
    ) -> ImageResult:
        """Draw the white part of each mask anew and wait; one picture or mask serves all prompts.

        Args:
            prompts: one prompt or several.
            pictures, masks: PIL images or paths; without a size in `wishes` pictures keep theirs.
            wishes: strength and all that `TextToImage` takes; see `Wishes`.

        Raises:
            RequestError: an argument or a picture is wrong, or their numbers do not agree.
            OutOfMemory: an image does not fit in memory even alone.
        """
        asked = several(prompts, **wishes)
        each = wishes.get("images_per_prompt", 1)
        shown = one_for_each("picture", pictures, len(asked), each)
        hidden = one_for_each("mask", masks, len(asked), each)
        pairs = zip(shown, hidden, strict=True)
        return self._run(asked, [{"image": a, "mask_image": b} for a, b in pairs])

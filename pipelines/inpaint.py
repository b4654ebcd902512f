"""Parts of pictures drawn anew, by the model's own inpainting pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import AutoPipelineForInpainting, DiffusionPipeline

from mindsd.pipelines.image import ImagePipeline, ImageResult, related, several
from mindsd.pipelines.image_to_image import spread_pictures
from mindsd.pipelines.picture import Picture


class Inpaint(ImagePipeline):
    """Draws what the mask shows in white. `Inpaint.load("tiny-sd")("a star", picture, mask)`"""

    @classmethod
    def _suitable(cls, pipe: DiffusionPipeline) -> DiffusionPipeline:
        return related(AutoPipelineForInpainting, pipe, "inpainting")

    def __call__(
        self,
        prompts: str | Sequence[str],
        pictures: Picture | Sequence[Picture],
        masks: Picture | Sequence[Picture],
        *,
        strength: float | None = None,
        negative_prompt: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int | None = None,
        width: int | None = None,
        height: int | None = None,
        images_per_prompt: int = 1,
        scheduler: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ImageResult:
        """Draw the white part of each mask anew; one picture or mask serves all prompts.

        Without a size the pictures keep their own. Arguments are those of `ImageParameters`.

        Raises:
            RequestError: an argument or a picture is wrong, or their numbers do not agree.
            OutOfMemory: an image does not fit in memory even alone.
        """
        asked = several(
            prompts,
            images_per_prompt,
            seed,
            strength=strength,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance=guidance,
            width=width,
            height=height,
            scheduler=scheduler,
            options=dict(options or {}),
        )
        shown = spread_pictures("picture", pictures, len(asked), images_per_prompt)
        hidden = spread_pictures("mask", masks, len(asked), images_per_prompt)
        pairs = zip(shown, hidden, strict=True)
        return self._run(asked, [{"image": a, "mask_image": b} for a, b in pairs])

"""Pictures drawn anew by a prompt, by the model's own image-to-image pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import AutoPipelineForImage2Image, DiffusionPipeline

from mindsd.errors import RequestError
from mindsd.pipelines.image import ImagePipeline, ImageResult, related, several
from mindsd.pipelines.picture import Picture


class ImageToImage(ImagePipeline):
    """Draws pictures anew. `ImageToImage.load("tiny-sd")("a red circle", picture, strength=0.6)`"""

    @classmethod
    def _suitable(cls, pipe: DiffusionPipeline) -> DiffusionPipeline:
        return related(AutoPipelineForImage2Image, pipe, "image-to-image")

    def __call__(
        self,
        prompts: str | Sequence[str],
        pictures: Picture | Sequence[Picture],
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
        """Draw each picture anew by its prompt; one picture serves all prompts.

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
        given = spread_pictures("picture", pictures, len(asked), images_per_prompt)
        return self._run(asked, [{"image": picture} for picture in given])


def spread_pictures(
    what: str, pictures: Picture | Sequence[Picture], images: int, images_per_prompt: int
) -> list[Picture]:
    """One picture for each image: the same one for all, or one for each prompt.

    Raises:
        RequestError: there are neither one nor as many as prompts.
    """
    given = list(pictures) if isinstance(pictures, list | tuple) else [pictures]
    prompts = images // images_per_prompt
    if len(given) == 1:
        return given * images
    if len(given) != prompts:
        raise RequestError(f"{len(given)} {what}s for {prompts} prompts; give one, or one for each")
    return [picture for picture in given for _ in range(images_per_prompt)]

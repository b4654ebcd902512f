"""Prompts to images, by whatever pipeline class the model folder names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mindsd.pipelines.image import ImagePipeline, ImageResult, several


class TextToImage(ImagePipeline):
    """Draws prompts. `TextToImage.load("tiny-sd")(["a red circle"], steps=20, seed=7).images`"""

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
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
        """Draw every prompt and wait. Image i has seed `seed + i`, whatever runs beside it.

        Arguments are those of `ImageParameters`; None leaves a choice to the model's pipeline.

        Raises:
            RequestError: an argument is wrong, or the model's pipeline does not take it.
            OutOfMemory: an image does not fit in memory even alone.
        """
        asked = several(
            prompts,
            images_per_prompt,
            seed,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance=guidance,
            width=width,
            height=height,
            scheduler=scheduler,
            options=dict(options or {}),
        )
        return self._run(asked, [{}] * len(asked))

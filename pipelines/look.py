"""What a request does first: see the pictures of its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mindsd.batching.placeholders import Placeholders
from mindsd.pipelines.vision import AnyImage, Vision
from mindsd.tokenmerge.visual import VisualMerge


@dataclass(eq=False)
class Look:
    """What a request calls to see its pictures, once; then it holds them no more.

    Attributes:
        vision: the model's.
        ids, see_each_other: as of `placeholders`.
        images: to be seen.
        merge: as of `see`.
    """

    vision: Vision
    ids: Sequence[int]
    images: Sequence[AnyImage]
    merge: VisualMerge | None
    see_each_other: bool

    def __call__(self) -> Placeholders:
        seen = [self.vision.see(image, self.merge) for image in self.images]
        self.images = ()  # what a tower takes of them is many times the picture
        return self.vision.placeholders(self.ids, seen, see_each_other=self.see_each_other)

"""Where a transformer block takes and gives its image and text tokens.

Parameters are known by their names, results by their shapes. Where both tokens have one shape,
diffusers' registry of its blocks says it; it lists few of them, and one (Bria's) wrongly.
"""

from __future__ import annotations

import inspect
from typing import Any

from diffusers.hooks._helpers import TransformerBlockRegistry  # private: guarded by a test
from torch import Tensor, nn

from mindsd.errors import ModelError, RequestError


class Ports:
    """One block's. `result` must be told of every result before `made` can make one.

    Raises:
        ModelError: the block takes its image tokens by no name that is known.
    """

    def __init__(self, block: nn.Module):
        self.kind = type(block).__name__
        self.parameters = list(inspect.signature(block.forward).parameters)
        try:
            known = TransformerBlockRegistry.get(type(block))
        except ValueError:  # a block that diffusers does not list: PixArt's, AuraFlow's, Chroma's
            known = None
        names = ["hidden_states", *self.parameters[:1]]
        self.text_name = "encoder_hidden_states"
        if known is not None:
            names.insert(0, known.hidden_states_argument_name)
            self.text_name = known.encoder_hidden_states_argument_name
        found = [name for name in names if name in self.parameters]
        if not found:
            raise ModelError(f"its {self.kind} takes no image tokens by a name that is known")
        self.image_name = found[0]
        self.image_index = getattr(known, "return_hidden_states_index", None)
        self.pair = False  # whether it gives a pair; learned when it first ran

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Any]:
        """Image and text tokens of a call."""
        named = dict(zip(self.parameters, args, strict=False)) | kwargs
        return named[self.image_name], named.get(self.text_name)

    def result(self, result: Any, image: Tensor, text: Any) -> Tensor:
        """The image tokens of a result.

        Args:
            result: one tensor, or a pair of image tokens and text tokens (or None) in any order.
            image, text: the tokens that were given.

        Raises:
            RequestError: it is neither.
        """
        if isinstance(result, Tensor):
            self.pair, found = False, result
        else:
            self.pair, self.image_index = True, self._index(result, image, text)
            found = result[self.image_index]
        if found.shape != image.shape:
            raise self._refused(f"makes {tuple(found.shape)} of {tuple(image.shape)}")
        return found

    def made(self, image: Tensor, text: Any) -> Any:
        """A result of the block's form from image and text tokens."""
        if not self.pair:
            return image
        return (image, text) if self.image_index == 0 else (text, image)

    def _index(self, result: Any, image: Tensor, text: Any) -> int:
        """Which of a pair are the image tokens."""
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise self._refused("gives more than image and text tokens")
        fits = [
            place
            for place, own in enumerate(result)
            if _shape(own) == image.shape and _shape(result[1 - place]) in (None, _shape(text))
        ]
        if len(fits) == 2 and self.image_index in fits:
            return self.image_index
        if len(fits) != 1:
            shapes = " and ".join(str(_shape(own)) for own in result)
            raise self._refused(f"gives {shapes}: which are its image tokens cannot be told")
        return fits[0]

    def _refused(self, why: str) -> RequestError:
        return RequestError(
            f"no step cache with shallow steps: this model's {self.kind} {why}; "
            "skip steps instead (skip:2 or tolerance:0.02)"
        )


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None

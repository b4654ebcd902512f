"""The DiT split: every block after the first is deep.

    embed -> block 0 -> [ block 1 ... block L-1 ] -> norm, project
                            `-- deep value: what they add to the image tokens, [tokens, width]

As first-block caching does it; kept is one residual of the image stream for each row. The text
stream needs none: after the last block only the image is read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from diffusers.hooks._helpers import TransformerBlockRegistry  # private: guarded by a test
from torch import Tensor, nn

from mindsd.errors import ModelError
from mindsd.stepcache.split import Pass, Split, Stop

LISTS = ("transformer_blocks", "single_transformer_blocks", "blocks", "layers")
SKETCH = 64  # groups of tokens that a probe keeps the means of


class DiTSplit(Split):
    """Splits any diffusers transformer whose blocks lie in lists of the usual names.

    Raises:
        ModelError: it has fewer than two blocks in such lists.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        lists = [getattr(model, name, None) for name in LISTS]
        blocks = [block for own in lists if isinstance(own, nn.ModuleList) for block in own]
        if len(blocks) < 2:
            names = ", ".join(LISTS)
            raise ModelError(f"{type(model).__name__} has no blocks to cache in any of {names}")
        self.put(blocks[0], self._first(Ports(blocks[0])))
        for block in blocks[1:-1]:
            self.put(block, self._middle(Ports(block)))
        self.put(blocks[-1], self._last(Ports(blocks[-1])))

    def _first(self, ports: Ports) -> Callable[..., Any]:
        def first(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if self.now.mode is Pass.PROBE:
                image, _ = ports.given(args, kwargs)
                self.now.value = sketch(ports.image(result) - image)
                raise Stop
            if self.now.mode is Pass.KEEP:
                self.now.before = ports.image(result)
            elif self.now.mode is Pass.FORECAST:
                ports.image(result)  # learns the form of its results
            return result

        return first

    def _middle(self, ports: Ports) -> Callable[..., Any]:
        def middle(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if self.now.mode is Pass.FORECAST:
                return ports.made(*ports.given(args, kwargs))
            return original(*args, **kwargs)

        return middle

    def _last(self, ports: Ports) -> Callable[..., Any]:
        def last(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            before, self.now.before = self.now.before, None
            if self.now.mode is Pass.FORECAST:
                image, text = ports.given(args, kwargs)
                assert self.now.value is not None
                return ports.made(image + self.now.value, text)
            result = original(*args, **kwargs)
            if self.now.mode is Pass.KEEP:
                assert before is not None
                self.now.value = ports.image(result) - before
            return result

        return last


class Ports:
    """Where a block takes and gives its image and text tokens."""

    def __init__(self, block: nn.Module):
        self.parameters = list(inspect.signature(block.forward).parameters)
        try:
            known = TransformerBlockRegistry.get(type(block))
        except ValueError:  # a block that diffusers does not list: SD3's, PixArt's, Z-Image's
            known = None
        self.image_name = getattr(known, "hidden_states_argument_name", None) or self.parameters[0]
        if known is None and "hidden_states" in self.parameters:
            self.image_name = "hidden_states"
        self.text_name = (
            getattr(known, "encoder_hidden_states_argument_name", None) or "encoder_hidden_states"
        )
        self.image_index = getattr(known, "return_hidden_states_index", None)
        self.text_index = getattr(known, "return_encoder_hidden_states_index", None)
        self.single = True  # whether the block gave one tensor; learned when it first ran

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Any]:
        """Image and text tokens of a call."""
        named = dict(zip(self.parameters, args, strict=False)) | kwargs
        return named[self.image_name], named.get(self.text_name)

    def image(self, result: Any) -> Tensor:
        """The image tokens of a result."""
        self.single = isinstance(result, Tensor)
        if self.single:
            return result
        if self.image_index is None:  # (text or None, image), as SD3's blocks give it
            self.image_index, self.text_index = len(result) - 1, 0
        return result[self.image_index]

    def made(self, image: Tensor, text: Any) -> Any:
        """A result of the block's form from image and text tokens."""
        if self.text_index is None:
            return image
        pair = {self.image_index: image, self.text_index: text}
        return tuple(pair[place] for place in sorted(pair))


def sketch(tokens: Tensor) -> Tensor:
    """Means over groups of tokens: [rows, at most SKETCH, width] from [rows, tokens, width]."""
    groups = min(SKETCH, tokens.shape[1])
    return tokens[:, : tokens.shape[1] // groups * groups].unflatten(1, (groups, -1)).mean(2)

"""The DiT split: every block after the first is deep.

    embed -> block 0 -> [ block 1 ... block L-1 ] -> norm, project
                            `-- deep value: what they add to the image tokens, [tokens, width]

As first-block caching does it; kept is one residual of the image stream for each row. The text
stream needs none: after the last block only the image is read.

What a model adds between its blocks (ControlNet) is not theirs and stays fresh in every pass. Where
it joins its text to the image on the way (Flux 2, AuraFlow, Chroma), what the blocks add before and
after are two pieces, laid one behind the other:

    deep value   [image tokens | text and image tokens, width]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mindsd.errors import ModelError
from mindsd.stepcache.ports import Ports
from mindsd.stepcache.split import Pass, Running, Split, Stop

LISTS = (
    "transformer_blocks",
    "single_transformer_blocks",
    "joint_transformer_blocks",
    "double_blocks",
    "visual_transformer_blocks",
    "blocks",
    "layers",
)
# Models whose rows are not what they seem: what one row keeps would be wrong beside other rows.
KNOWN_NOT = {
    "BriaFibo2Transformer2DModel": "lays out a row's tokens as its neighbours' texts ask",
    "ErnieImageTransformer2DModel": "has its tokens before its rows",
    "HiDreamImageTransformer2DModel": "has the layers of its texts before its rows",
    "JoyImageEditPlusTransformer3DModel": "pads a row's tokens to its neighbours' number",
    "Lumina2Transformer2DModel": "pads a row's tokens to its neighbours' number",
    "NucleusMoEImageTransformer2DModel": "does not undo a LoRA's scale where a probe stops it",
    "OmniGenTransformer2DModel": "takes the pictures of all its rows as one list",
}
SKETCH = 64  # groups of tokens that a probe keeps the means of


class DiTSplit(Split):
    """Splits any diffusers transformer whose blocks lie in lists of the usual names.

    Raises:
        ModelError: it has fewer than two blocks in such lists, or is known not to come apart.
    """

    def __init__(self, model: nn.Module):
        kind = type(model).__name__
        if kind in KNOWN_NOT:
            raise ModelError(f"{kind} {KNOWN_NOT[kind]}")
        lists = [getattr(model, name, None) for name in LISTS]
        blocks = [block for own in lists if isinstance(own, nn.ModuleList) for block in own]
        if len(blocks) < 2:
            raise ModelError(f"{kind} has no blocks to cache in any of {', '.join(LISTS)}")
        ports = [Ports(block) for block in blocks]  # all of them, before anything is put on
        super().__init__(model)
        for block, own in zip(blocks, ports, strict=True):
            self.put(block, self._block(own))

    def deep(self, running: Running) -> Tensor:
        """The pieces behind each other: [rows, tokens, width], in the dtype of the tokens."""
        if not running.kept:
            raise self.refused("its deep blocks did not run")
        kept = running.kept
        return (kept[0] if len(kept) == 1 else torch.cat(kept, 1)).to(running.dtype)

    def shallow(self, run: Callable[[], Any], deep: Tensor) -> Any:
        running = Running(Pass.FORECAST, deep)
        result = self._in(running, run)
        if running.used != deep.shape[1]:
            raise self.refused(f"{running.used} of {deep.shape[1]} kept tokens have a place")
        return result

    def _block(self, ports: Ports) -> Callable[..., Any]:
        """In a pass the block that is called first is cheap, those after it are deep."""

        def block(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            now = self.now
            if now.mode is Pass.PLAIN:
                return original(*args, **kwargs)
            image, text = ports.given(args, kwargs)
            if not now.begun:
                now.begun = True
                return self._first(ports, image, text, lambda: original(*args, **kwargs))
            if now.mode is Pass.FORECAST:
                return ports.made(self._forecast(image), text)
            piece = self._piece(image[:, : now.tokens])
            piece.sub_(image[:, : now.tokens])  # before it runs: it may write into its own input
            result = original(*args, **kwargs)
            piece.add_(ports.result(result, image, text)[:, : now.tokens])
            return result

        return block

    def _first(self, ports: Ports, image: Tensor, text: Any, run: Callable[[], Any]) -> Any:
        now = self.now
        if now.mode is Pass.FORECAST:
            return run()
        if image.ndim != 3 or image.shape[0] != now.rows:
            raise self.refused(f"its blocks take {tuple(image.shape)} tokens for {now.rows} rows")
        now.dtype = image.dtype
        before = sketch(image[:, : now.tokens]) if now.mode is Pass.PROBE else None
        result = run()
        if before is not None:
            now.value = sketch(ports.result(result, image, text)[:, : now.tokens]) - before
            raise Stop
        return result

    def _piece(self, image: Tensor) -> Tensor:
        """Where what the blocks add to so many tokens is summed up, in float32."""
        now = self.now
        if image.shape[0] != now.rows or (now.kept and now.kept[0].shape[2:] != image.shape[2:]):
            raise self.refused(f"its blocks take {tuple(image.shape)} tokens for {now.rows} rows")
        if not now.kept or now.kept[-1].shape != image.shape:
            exact = torch.promote_types(image.dtype, torch.float32)
            now.kept.append(torch.zeros_like(image, dtype=exact))
        return now.kept[-1]

    def _forecast(self, image: Tensor) -> Tensor:
        """The image tokens with their piece of the value, which is put in where it begins."""
        now = self.now
        assert now.value is not None
        own = image[:, : now.tokens]
        others = image[:, own.shape[1] :]
        if now.kept and now.kept[-1].shape == own.shape:
            return image
        piece = now.value[:, now.used : now.used + own.shape[1]]
        if piece.shape != own.shape:
            raise self.refused(f"{tuple(own.shape)} tokens came where others had been kept")
        now.used += own.shape[1]
        now.kept.append(piece)
        return torch.cat([own + piece, others], 1) if others.shape[1] else own + piece


def sketch(tokens: Tensor) -> Tensor:
    """Means over groups of tokens: [rows, at most SKETCH, width] from [rows, tokens, width]."""
    groups = min(SKETCH, tokens.shape[1])
    return tokens[:, : tokens.shape[1] // groups * groups].unflatten(1, (groups, -1)).mean(2)

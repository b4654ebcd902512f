"""Lets a transformers language model run packed over pages, once it is proven that it may."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from mindsd.attention.decoder import attach_decoder
from mindsd.attention.for_transformers import AttachedLanguage, attach_language
from mindsd.attention.int8_weights import Rounded
from mindsd.attention.npu_fused import Fused, fuse
from mindsd.attention.npu_w8a8 import quantize
from mindsd.batching.replay import Recorder, Replay
from mindsd.cuda_graph import CudaRecorder
from mindsd.device import cpu_memory
from mindsd.errors import ModelError
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.step import present_step
from mindsd.kvcache.table import Lane
from mindsd.kvcache.view import PagedCache, windows
from mindsd.patches import Patches
from mindsd.pipelines.cache_options import BLOCKS
from mindsd.pipelines.proof import BUDGET, TOLERANCES, Sample, explained, prove, texts_alone
from mindsd.pipelines.reach import reach
from mindsd.pipelines.vision import Vision
from mindsd.pipelines.vision_proof import pictures_alone, seen
from mindsd.prepack import Prepacked, weight_bytes

NEEDED = ("position_ids", "past_key_values")
# Of the largest logit. The least change lets a number round to its other neighbour, 1/127 away.
EIGHT_BITS = 1e-1
SPARE = 2  # times the weights must be free before they are laid out for C


class PackedModel:
    """A transformers decoder that runs packed.

    Args:
        model: with a language model's head.
        prepack: lay its weights out anew for faster products (prepack.py), and on a CPU for whole
            layers in C (attention/decoder.py), where these give what the model gives.
        vision: its eyes; None for a model of text alone, or to use it so.
        layers: what runs beside attention, as attention/layers.py says it; "w8a8" and "int8" are
            for the decoder, its eyes stay as they are.
        recorder: of steps of few tokens; None is the device's own: CUDA graphs, or none.

    Attributes:
        windows: of each layer; None where it sees all.
        reach: positions up to which a token's numbers do not depend on how long other texts of its
            forward are; None for all.
        see_each_other: the tokens of a picture see all of it, not only what is before them.
        token_bytes: what a token takes in the cache, by the cache's dtype.
        native: what runs in C where a step has few tokens, and what does not and why; None where
            nothing was tried.
        why_unrecorded: the reason that no step is recorded; None where they are.

    Raises:
        ModelError: it cannot run so; the message says why. The model is as it was.
        RequestError: it runs on an engine already, or takes no 8 bits.
    """

    def __init__(
        self,
        model: Any,
        *,
        prepack: bool = False,
        vision: Vision | None = None,
        layers: str = "auto",
        recorder: Recorder | None = None,
    ):
        accepted = inspect.signature(model.forward).parameters
        if missing := [name for name in NEEDED if name not in accepted]:
            raise ModelError(f"{type(model).__name__} takes no {' and no '.join(missing)}")
        self.model, self.vision = model, vision
        self.windows = windows(model.config)
        self.reach = reach(model.config)
        self.see_each_other = False
        self.device = next(model.parameters()).device
        self._calls: int | None = None  # attention calls of a forward, once they were counted
        self._keeps = "logits_to_keep" in accepted
        self._cache = PagedCache(model.config)
        self._patches: Patches | None = None
        self._prepacked: Prepacked | None = None
        self._attached: AttachedLanguage | None = None
        self._fused: Fused | None = None
        self._quantized: Fused | None = None
        self._rounded: Rounded | None = None
        self.native: Fused | None = None
        self._recorder: Recorder | None = None
        self.why_unrecorded: str | None = "nothing is recorded on this device"
        texts, pictures = self._alone(layers)
        try:
            self._patches = None if vision is None else Patches(model)
            self._prepacked = Prepacked(model) if prepack else None
            self._fused = None if layers == "off" else fuse(model, ("npu", "cuda"))
            self._attached = attach_language(model)
            self.token_bytes = self._proven(texts, pictures)
            self._go_native(texts, pictures, layers, prepack)
            self._go_recorded(texts, pictures, layers, recorder)
        except BaseException as error:
            self.close()
            raise explained(type(model).__name__, error) from error

    @property
    def runs(self) -> dict[str, Any]:
        """What a `TokenRunner` of it must know beside its forward."""
        # What is recorded was attended to by kernels that never read what nobody sees.
        alone = {"device": self.device, "clears": self._recorder is None or self.vision is not None}
        if self.vision is None:
            return alone
        said = self.model.get_output_embeddings().weight.shape[0]  # tokens that it can say
        token = self.vision.token_id if self.vision.token_id < said else None
        axes = 4 if self.vision.counts_axes else 1
        return alone | {"axes": axes, "image_token": token}

    def new_forward(self) -> Callable[..., Tensor]:
        """The forward of one runner: `forward`, recorded where that can be."""
        own = self._recorder
        return self.forward if own is None else Replay(self.forward, own, self.model.parameters)

    def forward(
        self, ids: Tensor, positions: Tensor, index: Tensor, features: tuple[Tensor, ...] = ()
    ) -> Tensor:
        """Logits [R, V] of the tokens at `index`, inside a step.

        Args:
            features: of the tokens that stand for images, [n, dim] each.
        """
        more: dict[str, Any] = {"logits_to_keep": index} if self._keeps else {}
        if features:
            assert self.vision is not None
            more["mm_encoder_outputs"] = self.vision.tower.outputs(features)
        out = self.model(
            input_ids=ids,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            **more,
        )
        step = present_step()
        assert step is not None
        calls = self._calls = self._calls or step.calls.total()
        if step.calls.total() != calls:
            raise ModelError(
                f"{type(self.model).__name__} asked for attention {step.calls.total()} times, not "
                f"{calls} as before: somebody changed it while it ran"
            )
        return out.logits[0] if self._keeps else out.logits[0, index]

    def lanes(self, blocks: int, size: int) -> tuple[list[Lane], list[int]]:
        """A lane for each window, the one without first; and each layer's lane."""
        kinds = sorted(set(self.windows), key=lambda window: (window is not None, window))
        lanes = [Lane(BlockPool(blocks, size), window) for window in kinds]
        return lanes, [kinds.index(window) for window in self.windows]

    def close(self) -> None:
        """The model as it was."""
        parts = self.native, self._attached, self._fused, self._quantized, self._prepacked
        for own in (*parts, self._patches, self._rounded):
            if own is not None:
                own.remove()

    def _go_native(
        self, texts: list[Sample], pictures: Sample | None, layers: str, prepack: bool
    ) -> None:
        """Run few tokens in C, once that, too, gives what the model gives alone.

        Raises:
            ModelError: it is wished, and does not.
        """
        wished = layers == "int8"
        roomy = prepack and cpu_memory()[1] > SPARE * weight_bytes(self.model)
        if not wished and not (layers == "auto" and roomy and self.device.type == "cpu"):
            return
        try:
            self.native = attach_decoder(self.model, eight_bits=wished)
            if not self.native.served and wished:
                reason = next(iter(self.native.left.values()))
                raise ModelError(f"no layer runs in 8 bits: {reason}")
            if self.native.served:
                self._proven(texts, pictures)
        except Exception as error:  # whatever it is: unasked, it may not cost a model its packing
            if wished:
                raise
            self.native = self.native or Fused()
            self.native.remove()
            self.native.served.clear()
            self.native.left["all"] = f"{type(error).__name__}: {error}".split("\n")[0]

    def _go_recorded(
        self, texts: list[Sample], pictures: Sample | None, layers: str, recorder: Recorder | None
    ) -> None:
        """Record steps of few tokens, once what runs again gives what the model gives alone."""
        if layers == "off" or (recorder is None and self.device.type != "cuda"):
            return
        try:
            self._recorder = recorder or CudaRecorder()
            self._proven(texts, pictures)
            self.why_unrecorded = None
        except Exception as error:  # whatever it is: unasked, it may not cost a model its packing
            self._recorder = None
            self.why_unrecorded = str(error).split("\n")[0] or type(error).__name__

    def _alone(self, layers: str) -> tuple[list[Sample], Sample | None]:
        """What it gives alone, in 8 bits where they are wished: packing must not change that."""
        if layers == "w8a8":
            self._quantized = quantize(self.model.get_decoder())
        if layers == "int8":
            self._rounded = Rounded(self.model.get_decoder())
        try:
            seen_alone = None if self.vision is None else pictures_alone(self.vision)
            return texts_alone(self.model, self.device), seen_alone
        except BaseException:
            self.close()
            raise

    def _proven(self, texts: list[Sample], pictures: Sample | None) -> dict[str, int]:
        """Bytes that a token takes in the cache, once packed and alone agree."""
        if self.vision is None or pictures is None:
            return self._prove(texts)
        try:
            return self._prove([*texts, seen(self.vision, pictures)])
        except ModelError:  # the tokens of a picture may see each other, as in Gemma 3
            self.see_each_other = True
            return self._prove([*texts, seen(self.vision, pictures, see_each_other=True)])

    def _prove(self, samples: list[Sample]) -> dict[str, int]:
        name, tolerance = type(self.model).__name__, TOLERANCES.get(self.model.dtype, 1e-1)
        if self._quantized or self._rounded:
            tolerance = max(tolerance, EIGHT_BITS)
        forward, how = self.new_forward(), (self.lanes, self.runs, tolerance)
        if not isinstance(forward, Replay):
            return prove(name, samples, forward, *how)
        size = BLOCKS[self.device.type]  # pieces of prompts, then tokens one by one
        proven = [prove(name, samples, forward, *how, size, budget) for budget in (BUDGET, 1)]
        if forward.left:
            raise ModelError(next(iter(forward.left.values())))
        return proven[0]

"""A loaded language model: where it is, how it runs, and the engine that its requests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from mindsd.aside import aside
from mindsd.attention.layers import EIGHT_BITS, LANGUAGE_LAYERS, check_layers
from mindsd.batching.placeholders import Placeholders
from mindsd.batching.replay import Recorder
from mindsd.batching.runner import Proposer, TokenRunner
from mindsd.batching.tokens import Budget
from mindsd.device import DTYPES, Device, fast_dtype, find_device
from mindsd.engine import Engine
from mindsd.errors import ModelError, RequestError
from mindsd.kvcache.pages import PageStore
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.drafting import Drafting
from mindsd.pipelines.image_cache import ImageCache
from mindsd.pipelines.look import Look
from mindsd.pipelines.packed import PackedModel
from mindsd.pipelines.prompt import Tokens
from mindsd.pipelines.shared_engine import SharedEngine
from mindsd.pipelines.vision import Vision
from mindsd.pipelines.vision_tower import open_tower
from mindsd.prepack import weight_bytes
from mindsd.sampling.draw import draw
from mindsd.sampling.grammar import GrammarCompiler
from mindsd.tokenmerge.visual import VisualMerge
from mindsd.weights.defaults import sampling_defaults
from mindsd.weights.language import find_language_model
from mindsd.weights.loading import GenerationDefaults, generation_defaults, load_language_model
from mindsd.weights.processor import load_processor
from mindsd.wrap import Wrap

SMALL = 32 * 2**20  # bytes on disk: 135 million weights already gain by bfloat16
TOKENS = {"cpu": 256, "cuda": 2048, "npu": 256}  # of a forward; a GPU computes more in one go
SPARE = 2  # times the weights must be free before they are laid out a second time


@dataclass(eq=False)
class LanguageModel:
    """One language model on a device; made by `load_language` or from parts in memory.

    Attributes:
        name: what people call it.
        model: transformers' module.
        tokenizer: transformers' tokenizer.
        device: where it is.
        cache: the KV cache it wishes.
        budget: of one forward; None for what the device takes on best.
        proposer: guesses ahead (speculative/); None for no speculation.
        drafting: the smaller model that guesses ahead in place of a proposer.
        vision: its eyes; None for a model of text alone.
        packed: how it runs over pages; None where it cannot.
        why_plain: the reason for that.
        layers: what runs beside attention, as attention/layers.py says it.
        generation_config: "auto" (it says how its tokens are drawn) or "mindsd" (it does not).
        recorder: of steps of few tokens; None is the device's own.
        sampling: fields of `Sampling` as it says them, for requests that do not.
        shared: its users and their engine.
    """

    name: str
    model: Any
    tokenizer: Any
    device: Device
    cache: CacheOptions = CacheOptions()
    budget: Budget | None = None
    proposer: Proposer | None = None
    drafting: Drafting | None = None
    vision: Vision | None = None
    packed: PackedModel | None = None
    why_plain: str | None = None
    layers: str = "auto"
    generation_config: str = "auto"
    recorder: Recorder | None = None
    sampling: Mapping[str, Any] = field(init=False)
    shared: SharedEngine = field(init=False)
    _runner: TokenRunner | None = None
    _wraps: list[Wrap] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cache = self.cache.on(self.device)
        check_layers(self.layers, self.device.kind, self.model.dtype, LANGUAGE_LAYERS)
        self.sampling = sampling_defaults(self.model, self.name, self.generation_config)
        self.shared = SharedEngine(self.name, Engine, self._open, self._shut)

    @cached_property
    def defaults(self) -> GenerationDefaults:
        """Where its texts end."""
        return generation_defaults(self.model, self.tokenizer)

    @cached_property
    def grammars(self) -> GrammarCompiler:
        """Of its tokenizer."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise RequestError(f"{self.name} has no fast tokenizer, which constraints need")
        return GrammarCompiler(backend, self.vocabulary, self.defaults.ends)

    @property
    def vocabulary(self) -> int:
        """How many logits it gives."""
        return self.model.get_output_embeddings().weight.shape[0]

    @property
    def runner(self) -> TokenRunner:
        """While it is open and runs packed."""
        assert self._runner is not None
        return self._runner

    @property
    def room(self) -> int | None:
        """Most tokens of prompt and answer together; None for no bound."""
        bounds = [self.defaults.context, None if self.packed is None else self.packed.reach]
        if self._runner is not None:
            lanes = [lane for lane in self._runner.lanes if lane.window is None]
            bounds += [lane.pool.total * lane.pool.size for lane in lanes]
        known = [bound for bound in bounds if bound is not None]
        return min(known, default=None)

    def look(self, tokens: Tokens, merge: VisualMerge | None) -> Callable[[], Placeholders] | None:
        """What a packed request calls to see the images of its prompt; None for a text."""
        if self.packed is None or self.vision is None or not tokens.images:
            return None
        each_other = self.packed.see_each_other
        return Look(self.vision, tokens.full, tokens.images, merge, each_other)

    def own_inputs(self, tokens: Tokens) -> Callable[[], dict[str, Any]] | None:
        """What gives a plain request the model's own inputs; None for a text.

        Raises:
            RequestError: its processor would read what was typed as special tokens.
        """
        if self.packed is not None or self.vision is None or not tokens.images:
            return None
        if tokens.typed:
            raise RequestError(
                f"{self.name} cannot read the text of special tokens beside pictures"
            )
        return partial(
            self.vision.own_inputs, tokens.text, tokens.pictures, add_special_tokens=False
        )

    def another_runner(self, tokens: int) -> TokenRunner:
        """One more, with a cache of its own for at most so many tokens; while it is open.

        Raises:
            ModelError: it does not run packed.
        """
        if self.packed is None:
            raise ModelError(f"{self.name} cannot run packed: {self.why_plain}")
        return self._made(self.packed, -(-tokens // self.cache.block))

    def _open(self, engine: Engine) -> None:
        self.why_plain = None
        try:
            roomy = self.device.free() > SPARE * weight_bytes(self.model)
            how: dict[str, Any] = {"prepack": roomy, "vision": self.vision, "layers": self.layers}
            how["recorder"] = self.recorder
            self.packed = aside(lambda: PackedModel(self.model, **how))
        except ModelError as reason:
            self.why_plain = str(reason)
            if self.drafting is not None:
                raise ModelError(f"{self.name} cannot verify drafts: {reason}") from reason
            if self.layers in EIGHT_BITS:
                raise
            return
        if self.vision is not None:
            self._wraps = open_tower(self.vision.tower)
        self._runner = self._made(self.packed)
        if self.drafting is not None:
            self._runner.proposer = self.drafting.begin(self, engine)

    def _shut(self) -> None:
        """The model as it was; everything that runs it is gone."""
        if self.drafting is not None:
            self.drafting.end()
        if self.packed is not None:
            self.packed.close()
        for own in reversed(self._wraps):
            own.remove()
        if self.vision is not None:
            self.vision.cache.clear()
        self._wraps, self.packed, self._runner = [], None, None

    def _made(self, packed: PackedModel, most: int | None = None) -> TokenRunner:
        """A runner with a cache of its own, of at most so many blocks."""
        blocks = self.cache.blocks(packed.token_bytes, self.device)
        lanes, lane_of = packed.lanes(min(blocks, most or blocks), self.cache.block)
        pages = PageStore(
            [lane.pool.total for lane in lanes], self.cache.block, lane_of, self.cache.dtype
        )
        budget = self.budget or Budget(TOKENS[self.device.kind])
        how = {"budget": budget, "proposer": self.proposer} | packed.runs
        return TokenRunner(packed.new_forward(), draw, pages, lanes, **how)


def load_language(
    model: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    cache: CacheOptions | None = None,
    **options: Any,
) -> LanguageModel:
    """Load a language model: "smollm2", a transformers folder, or a GGUF file.

    `options` are further attributes of `LanguageModel` (budget, layers, generation_config).

    Raises:
        ModelError: it is missing, incomplete, not safe, or not one that transformers knows.
        RequestError: the device, dtype or layers are not ones that this machine has.
    """
    if dtype not in ("auto", *DTYPES):
        raise RequestError(f"unknown dtype {dtype!r}; choose auto, {', '.join(DTYPES)}")
    place, files = find_device(device), find_language_model(model)
    kind = DTYPES.get(dtype) or fast_dtype(place, files.weight, SMALL)
    check_layers(options.get("layers", "auto"), place.kind, kind, LANGUAGE_LAYERS)
    module, tokenizer = aside(lambda: load_language_model(files, kind, place.torch))
    eyes = load_processor(files, tokenizer) if files.sees else None
    return in_memory(module, tokenizer, eyes, cache, files.name, **options)


def in_memory(
    model: Any,
    tokenizer: Any,
    processor: Any = None,
    cache: CacheOptions | None = None,
    name: str = "",
    **options: Any,
) -> LanguageModel:
    """A transformers model and its tokenizer that are in memory already, used as they are.

    Args:
        processor: transformers' processor, for a model that sees.
        name: "" is its class's.
    """
    place, kept = find_device(model.device.type), cache or CacheOptions()
    if not isinstance(model, torch.nn.Module):
        raise ModelError(f"a {type(model).__name__} is no language model")
    vision = None if processor is None else Vision(model, processor, ImageCache(kept.images))
    known = name or type(model).__name__
    return LanguageModel(known, model.eval(), tokenizer, place, kept, vision=vision, **options)

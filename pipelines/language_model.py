"""A loaded language model: where it is, how it runs, and the engine that its requests share."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch

from mindsd.aside import aside
from mindsd.batching.runner import Proposer, TokenRunner
from mindsd.batching.tokens import Budget
from mindsd.device import DTYPES, Device, fast_dtype, find_device
from mindsd.engine import Engine
from mindsd.errors import EngineClosed, ModelError, RequestError
from mindsd.kvcache.pages import PageStore
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.drafting import Drafting
from mindsd.pipelines.packed import PackedModel
from mindsd.prepack import weight_bytes
from mindsd.request import Request
from mindsd.sampling.draw import draw
from mindsd.sampling.grammar import GrammarCompiler
from mindsd.weights.language import find_language_model
from mindsd.weights.loading import GenerationDefaults, generation_defaults, load_language_model

SMALL = 32 * 2**20  # bytes on disk: 135 million weights already gain by bfloat16
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
        budget: of one forward.
        proposer: guesses ahead (speculative/); None for no speculation.
        drafting: the smaller model that guesses ahead in place of a proposer.
        packed: how it runs over pages; None where it cannot.
        why_plain: the reason for that.
    """

    name: str
    model: Any
    tokenizer: Any
    device: Device
    cache: CacheOptions = CacheOptions()
    budget: Budget = Budget()
    proposer: Proposer | None = None
    drafting: Drafting | None = None
    packed: PackedModel | None = None
    why_plain: str | None = None
    _users: int = 0
    _engine: Engine | None = None
    _guest: bool = False
    _closing: bool = False
    _requests: WeakSet[Request] = field(default_factory=WeakSet)
    _runner: TokenRunner | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

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

    def join(self, guest: Engine | None = None) -> Engine:
        """The engine to use until `leave`: the given one, else the model's own.

        Raises:
            EngineClosed: the model is being closed at this moment.
            RequestError: the model already runs on another engine.
        """
        with self._lock:
            if self._closing:
                raise EngineClosed(f"{self.name} is being closed; join it when that is done")
            if self._users and guest not in (None, self._engine):
                raise RequestError(
                    f"{self.name} already runs on another engine; close that pipeline first"
                )
            if self._users == 0:
                self._guest = guest is not None
                self._engine = guest or Engine()
                try:
                    self._open(self._engine)
                except BaseException:
                    self._shut()
                    raise
            self._users += 1
            assert self._engine is not None
            return self._engine

    def leave(self) -> None:
        """One user less; the last one ends its texts and takes everything off the model again."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            self._closing, engine = True, self._engine
        # Outside the lock: the engine's thread may be asking for it in a listener.
        if engine is not None and not self._guest:
            engine.close()
        for request in list(self._requests):
            if not request.ended:
                request.cancel()
        for request in list(self._requests):
            with suppress(Exception):  # how it ended is its own caller's business
                request.result()
        with self._lock:
            self._shut()
            self._closing = False

    def watch(self, request: Request) -> Request:
        """A request runs on this model: it must end before the model is as it was."""
        self._requests.add(request)
        return request

    def another_runner(self, tokens: int) -> TokenRunner:
        """One more, with a cache of its own for at most so many tokens; while it is open.

        Raises:
            ModelError: it does not run packed.
        """
        if self.packed is None:
            raise ModelError(f"{self.name} cannot run packed: {self.why_plain}")
        return self._made(self.packed, -(-tokens // self.cache.block))

    def _open(self, engine: Engine) -> None:
        try:
            roomy = self.device.free() > SPARE * weight_bytes(self.model)
            self.packed = aside(lambda: PackedModel(self.model, prepack=roomy))
        except ModelError as reason:
            self.why_plain = str(reason)
            if self.drafting is not None:
                raise ModelError(f"{self.name} cannot verify drafts: {reason}") from reason
            return
        self._runner = self._made(self.packed)
        if self.drafting is not None:
            self._runner.proposer = self.drafting.begin(self, engine)

    def _shut(self) -> None:
        """The model as it was; everything that runs it is gone."""
        if self.drafting is not None:
            self.drafting.end()
        if self.packed is not None:
            self.packed.close()
        self.packed, self._runner, self._engine = None, None, None

    def _made(self, packed: PackedModel, most: int | None = None) -> TokenRunner:
        """A runner with a cache of its own, of at most so many blocks."""
        blocks = self.cache.blocks(packed.token_bytes, self.device)
        lanes, lane_of = packed.lanes(min(blocks, most or blocks), self.cache.block)
        pages = PageStore(
            [lane.pool.total for lane in lanes], self.cache.block, lane_of, self.cache.dtype
        )
        return TokenRunner(
            packed.forward,
            draw,
            pages,
            lanes,
            budget=self.budget,
            device=packed.device,
            proposer=self.proposer,
        )


def load_language(
    model: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    cache: CacheOptions | None = None,
    budget: Budget | None = None,
    proposer: Proposer | None = None,
) -> LanguageModel:
    """Load a language model: "smollm2", a transformers folder, or a GGUF file.

    Raises:
        ModelError: it is missing, incomplete, not safe, or not one that transformers knows.
        RequestError: the device or dtype is not one that this machine has.
    """
    if dtype not in ("auto", *DTYPES):
        raise RequestError(f"unknown dtype {dtype!r}; choose auto, {', '.join(DTYPES)}")
    place, files = find_device(device), find_language_model(model)
    kind = DTYPES.get(dtype) or fast_dtype(place, files.weight, SMALL)
    module, tokenizer = aside(lambda: load_language_model(files, kind, place.torch))
    return LanguageModel(
        files.name,
        module.eval(),
        tokenizer,
        place,
        cache or CacheOptions(),
        budget or Budget(),
        proposer,
    )


def in_memory(model: Any, tokenizer: Any, **options: Any) -> LanguageModel:
    """A transformers model and its tokenizer that are in memory already, used as they are."""
    place = find_device(model.device.type)
    if not isinstance(model, torch.nn.Module):
        raise ModelError(f"a {type(model).__name__} is no language model")
    return LanguageModel(type(model).__name__, model.eval(), tokenizer, place, **options)

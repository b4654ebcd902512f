"""Lets a transformers language model run packed over pages, and proves that it may.

Packed, a model that mixes the tokens of a row other than by attention (recurrent layers,
convolutions) is wrong and raises nothing. So every model first computes three short sequences both
ways: packed with chunks of a prompt beside single tokens, and each alone without a cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mindsd.attention.for_transformers import AttachedLanguage, attach_language
from mindsd.device import is_out_of_memory
from mindsd.errors import ModelError, RequestError
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.prefix import root
from mindsd.kvcache.step import Segment, Step, stepping
from mindsd.kvcache.table import BlockTable, Lane
from mindsd.kvcache.view import PagedCache, windows
from mindsd.prepack import Prepacked

BLOCK = 32  # tokens
PROOF = (13, 7, 18)  # tokens of the sequences that are compared
TURNS = ((8, 0, 5), (1, 6, 9), (1, 1, 4), (3, 0, 0))  # tokens of each that go into a forward
INT8_BYTES = 1.07  # of a number with its share of the scale, at 64 numbers each
NEEDED = ("position_ids", "past_key_values")
# Largest difference to the model's own logits, relative to their largest value.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class CacheOptions:
    """The KV cache of a language model.

    Attributes:
        memory: bytes; None for a share of what is free.
        dtype: "auto" (as the model computes) or "int8" (half of bfloat16's room, a little less
            exact).
        block: tokens that one block holds.
    """

    memory: int | None = None
    dtype: str = "auto"
    block: int = BLOCK

    def __post_init__(self) -> None:
        if self.memory is not None and self.memory < 1:
            raise RequestError(f"the KV cache needs memory, got {self.memory} bytes")
        if self.dtype not in ("auto", "int8"):
            raise RequestError(f"the KV cache's dtype must be auto or int8, got {self.dtype!r}")
        if not 1 <= self.block <= 4096:
            raise RequestError(f"a block holds 1 to 4096 tokens, got {self.block}")

    def bytes_of(self, token: int, dtype: torch.dtype) -> int:
        """Bytes of a token's keys and values, of those that it takes in the model's dtype."""
        if self.dtype == "auto":
            return token
        return max(1, round(token / dtype.itemsize * INT8_BYTES))


class PackedModel:
    """A transformers decoder that runs packed.

    Args:
        model: with a language model's head.
        prepack: lay its weights out anew for faster products (prepack.py).

    Raises:
        ModelError: it cannot run so; the message says why. The model is as it was.
    """

    def __init__(self, model: Any, *, prepack: bool = False):
        accepted = inspect.signature(model.forward).parameters
        missing = [name for name in NEEDED if name not in accepted]
        if missing:
            raise ModelError(f"{type(model).__name__} takes no {' and no '.join(missing)}")
        self.model = model
        self.windows = windows(model.config)
        self.device = next(model.parameters()).device
        self._keeps = "logits_to_keep" in accepted
        self._cache = PagedCache(model.config)
        texts = self._texts()
        alone = self._alone(texts)
        self._prepacked = Prepacked(model) if prepack else None
        self._attached: AttachedLanguage = attach_language(model)
        self.token_bytes = self._proven(texts, alone)

    def forward(self, ids: Tensor, positions: Tensor, index: Tensor) -> Tensor:
        """Logits [R, V] of the tokens at `index`, inside a step."""
        kept = {"logits_to_keep": index} if self._keeps else {}
        out = self.model(
            input_ids=ids,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            **kept,
        )
        return out.logits[0] if self._keeps else out.logits[0, index]

    def lanes(self, blocks: int, size: int) -> tuple[list[Lane], list[int]]:
        """A lane for each window, the one without first; and each layer's lane."""
        kinds = sorted(set(self.windows), key=lambda window: (window is not None, window))
        lanes = [Lane(BlockPool(blocks, size), window) for window in kinds]
        return lanes, [kinds.index(window) for window in self.windows]

    def close(self) -> None:
        """The model as it was."""
        self._attached.remove()
        if self._prepacked is not None:
            self._prepacked.remove()

    def _texts(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        return [
            torch.randint(0, vocabulary, (length,), generator=generator).to(self.device)
            for length in PROOF
        ]

    @torch.inference_mode()
    def _alone(self, texts: Many[Tensor]) -> list[Tensor]:
        """The model's own logits, before anything is changed."""
        return [
            self.model(input_ids=text[None], use_cache=False).logits[0].float() for text in texts
        ]

    def _proven(self, texts: Many[Tensor], alone: Many[Tensor]) -> int:
        """Bytes that a token takes in the cache, once packed and alone agree."""
        try:
            return self._compare(texts, alone)
        except Exception as error:
            self.close()
            if is_out_of_memory(error) or isinstance(error, ModelError):
                raise
            kind = type(self.model).__name__
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            raise ModelError(f"{kind} does not run packed ({reason})") from error

    @torch.inference_mode()
    def _compare(self, texts: Many[Tensor], alone: Many[Tensor]) -> int:
        size = 4
        lanes, lane_of = self.lanes(3 * -(-max(PROOF) // size), size)
        pages = PageStore([lane.pool.total for lane in lanes], size, lane_of, "auto")
        packed = self._packed(texts, lanes, pages)
        largest = max(float(own.abs().max()) for own in alone)
        wrong = max(
            float((mine - own).abs().max()) for mine, own in zip(packed, alone, strict=True)
        )
        tolerance = TOLERANCES.get(self.model.dtype, 1e-1)
        if not wrong <= tolerance * max(1.0, largest):
            raise ModelError(
                f"{type(self.model).__name__} computes other logits packed than alone (off by "
                f"{wrong:.2g} of {largest:.2g})"
            )
        return sum(pages.block_bytes()) // size

    def _packed(self, texts: Many[Tensor], lanes: Many[Lane], pages: PageStore) -> list[Tensor]:
        """The logits of all tokens, computed over several forwards."""
        tables = [BlockTable(lanes, root()) for _ in texts]
        done = [0] * len(texts)
        found: list[list[Tensor]] = [[] for _ in texts]
        for turn in TURNS:
            segments, start = [], 0
            for own, length in enumerate(turn):
                if length:
                    tables[own].reserve(done[own], done[own] + length)
                    blocks = tables[own].blocks
                    segments.append((own, Segment(start, length, done[own], blocks)))
                    start += length
            ids = torch.cat([texts[own][s.past : s.total] for own, s in segments])
            positions = torch.cat([torch.arange(s.past, s.total) for _, s in segments])
            index = torch.arange(start, device=self.device)
            step = Step([segment for _, segment in segments], pages, lanes, self.device)
            with stepping(step):
                logits = self.forward(ids[None], positions[None].to(self.device), index).float()
            for own, segment in segments:
                found[own].append(logits[segment.start : segment.stop])
                done[own] = segment.total
        return [torch.cat(parts) for parts in found]

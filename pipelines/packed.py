"""Lets a transformers language model run packed over pages, and proves that it may.

Packed, a model that mixes the tokens of a row other than by attention (recurrent layers,
convolutions) is wrong and raises nothing. So every model first computes three short sequences both
ways: packed with chunks of a prompt beside single tokens, and each alone without a cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence as Many
from typing import Any

import torch
from torch import Tensor

from mindsd.attention.for_transformers import AttachedLanguage, attach_language
from mindsd.device import is_out_of_memory
from mindsd.errors import ModelError
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.prefix import root
from mindsd.kvcache.step import Segment, Step, present_step, stepping
from mindsd.kvcache.table import BlockTable, Lane
from mindsd.kvcache.view import PagedCache, windows
from mindsd.prepack import Prepacked

PROOF = (13, 7, 18)  # tokens of the sequences that are compared
TURNS = ((8, 0, 5), (1, 6, 9), (1, 1, 4), (3, 0, 0))  # tokens of each that go into a forward
NEEDED = ("position_ids", "past_key_values")
# Largest difference to the model's own logits, relative to their largest value.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class PackedModel:
    """A transformers decoder that runs packed.

    Args:
        model: with a language model's head.
        prepack: lay its weights out anew for faster products (prepack.py).

    Attributes:
        windows: of each layer; None where it sees all.
        reach: positions up to which a token's numbers do not depend on how long other texts of its
            forward are; None for all.
        token_bytes: what a token takes in the cache, by the cache's dtype.

    Raises:
        ModelError: it cannot run so; the message says why. The model is as it was.
        RequestError: it runs on an engine already.
    """

    def __init__(self, model: Any, *, prepack: bool = False):
        accepted = inspect.signature(model.forward).parameters
        missing = [name for name in NEEDED if name not in accepted]
        if missing:
            raise ModelError(f"{type(model).__name__} takes no {' and no '.join(missing)}")
        self.model = model
        self.windows = windows(model.config)
        self.reach = _reach(model.config)
        self._calls: int | None = None  # attention calls of a forward, once they were counted
        self.device = next(model.parameters()).device
        self._keeps = "logits_to_keep" in accepted
        self._cache = PagedCache(model.config)
        texts = self._texts()
        alone = self._alone(texts)
        self._prepacked = Prepacked(model) if prepack else None
        self._attached: AttachedLanguage | None = None
        try:
            self._attached = attach_language(model)
        except BaseException:
            self.close()
            raise
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
        if self._attached is not None:
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

    def _proven(self, texts: Many[Tensor], alone: Many[Tensor]) -> dict[str, int]:
        """Bytes that a token takes in the cache, once packed and alone agree."""
        try:
            return self._compare(texts, alone)
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception):
                raise
            if is_out_of_memory(error) or isinstance(error, ModelError):
                raise
            kind = type(self.model).__name__
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            raise ModelError(f"{kind} does not run packed ({reason})") from error

    @torch.inference_mode()
    def _compare(self, texts: Many[Tensor], alone: Many[Tensor]) -> dict[str, int]:
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
        return pages.token_bytes()

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


def _reach(config: Any) -> int | None:
    """Two things look at the longest text of a forward: LongRoPE, which turns all positions another
    way beyond the length that the model was first trained at, and Llama 4's attention temperature,
    which counts positions from there."""
    text = config.get_text_config(decoder=True)
    if getattr(text, "attn_temperature_tuning", False):
        raise ModelError("its attention temperature counts positions from the longest text")
    rope = getattr(text, "rope_parameters", None) or {}
    parts = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    if not any(part.get("rope_type") == "longrope" for part in parts):
        return None
    known = [part.get("original_max_position_embeddings") for part in parts]
    known.append(getattr(text, "original_max_position_embeddings", None))
    return min((own for own in known if own), default=None)

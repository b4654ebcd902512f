"""Attention of long segments by AMX tiles beside softmax in float64, and models that use it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mindsd import native
from mindsd.attention import decoder_layer
from mindsd.attention.decoder_fields import Heads
from mindsd.attention.decoder_product import FILE, PAIRS, TILES, library, source
from mindsd.attention.decoder_step import page_fields, tell
from mindsd.device import cpu_facts
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import Pages, PageStore
from mindsd.kvcache.step import Segment, Step, stepping
from mindsd.kvcache.table import GONE, Lane
from mindsd.pipelines.packed import PackedModel

BF16 = torch.bfloat16
CALL = """
#include <omp.h>
#include "{folder}/decoder_product.h"
#include "{folder}/decoder_share.h"

void attend_step(const Heads *heads, const Step *step, const Pages *pages, const float *qkv,
                 int64_t width, void *out, int64_t stride) {{
    Meeting place = {{0, 0}};
#pragma omp parallel num_threads((int)step->threads)
    {{
        const int me = omp_get_thread_num(), crew = omp_get_num_threads();
        tiles_begin();
        if (write_share(heads, step, pages, qkv, width, BFLOAT16, me, crew)) meet(&place, crew);
        attend_share(heads, step, pages, qkv, width, out, stride, BFLOAT16, me, crew);
        tiles_end();
    }}
}}
"""


@pytest.fixture(scope="module")
def attend_step(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The headers' attention by itself."""
    if missing := [name for name in PAIRS + TILES if name not in cpu_facts()[1]]:
        pytest.skip(f"this processor has no {' and no '.join(missing)}")
    if isinstance(reason := library(BF16), str):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("tiles")
    file = folder / "attend_step.c"
    file.write_text(CALL.format(folder=FILE.parent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINDSD_CACHE", str(folder))  # built anew: the headers are not beside it
        known = source(cpu_facts()[1])
        found = native.load(native.Source(file, known.needs, known.flags))
    assert not isinstance(found, str), found
    return found.attend_step


@dataclass(frozen=True)
class Case:
    """Texts of (tokens, tokens before them) and how they are attended to."""

    texts: Sequence[tuple[int, int]]
    heads: int = 6
    key_heads: int = 2
    dim: int = 64
    size: int = 32
    window: int | None = None
    threads: int = 1
    sharp: float = 1.0  # times the usual size of queries


class Packed:
    """Random texts of a case, in pages that hold no number wherever there is no token."""

    def __init__(self, case: Case):
        self.case = case
        need = [-(-(length + past) // case.size) for length, past in case.texts]
        blocks = sum(need) + 1
        order = torch.randperm(blocks, generator=torch.Generator().manual_seed(5)).tolist()
        store = PageStore([blocks], case.size, [0], "auto")
        like = torch.zeros(1, case.key_heads, case.dim, dtype=BF16)
        self.pages = store.of(0, 0, like, like)
        for own in self.pages:
            own.data.fill_(torch.nan)
        self.rows: list[Tensor] = []  # [tokens, heads, dim] of each text: queries, keys, values
        self.kept: list[tuple[Tensor, Tensor]] = []
        segments, start = [], 0
        for i, (length, past) in enumerate(case.texts):
            table, order = order[: need[i]], order[need[i] :]
            generator = torch.Generator().manual_seed(100 * length + past)
            widths = (case.heads, case.key_heads, case.key_heads)
            new = [torch.randn(length, n, case.dim, generator=generator) for n in widths]
            new[0] *= case.sharp
            old = [torch.randn(past, n, case.dim, generator=generator) for n in widths[1:]]
            self.rows.append(torch.cat([own.flatten(1) for own in new], 1))
            both = zip(old, new[1:], strict=True)
            k, v = (torch.cat(pair).to(BF16) for pair in both)
            self.kept.append((k, v))
            gone = 0 if case.window is None else max(0, past + 1 - case.window) // case.size
            for pages, own in zip(self.pages, old, strict=True):
                self._put(pages, table, own, gone * case.size)
            segments.append(Segment(start, length, past, [[GONE] * gone + table[gone:]]))
            start += length
        lanes = [Lane(BlockPool(blocks, case.size), case.window)]
        self.step = Step(segments, store, lanes, torch.device("cpu"))

    def _put(self, pages: Pages, table: Sequence[int], own: Tensor, first: int) -> None:
        for at in range(first, len(own)):
            block, row = table[at // self.case.size], at % self.case.size
            pages.data[:, block, row] = own[at].to(BF16)

    def attended(self, attend_step: Any) -> list[Tensor]:
        """[tokens, heads * dim] of each text, float64 of bfloat16."""
        case = self.case
        heads = Heads(case.heads, case.key_heads, case.dim, 0, case.dim**-0.5, 0, 0, None, None)
        turn = torch.zeros(1, self.step.tokens, case.dim)
        told = tell(self.step, 0, case.window, (turn, turn), case.threads, 0)
        fields, qkv = page_fields(*self.pages), torch.cat(self.rows)
        out = torch.full((len(qkv), case.heads * case.dim), torch.nan, dtype=BF16)
        attend_step(
            ctypes.byref(heads),
            ctypes.c_void_p(told.address),
            ctypes.byref(fields),
            ctypes.c_void_p(qkv.data_ptr()),
            ctypes.c_int64(qkv.shape[1]),
            ctypes.c_void_p(out.data_ptr()),
            ctypes.c_int64(out.shape[1]),
        )
        return [out[own.start : own.stop].double() for own in self.step.segments]

    def meant(self) -> list[Tensor]:
        """The same from the definition."""
        case, found = self.case, []
        for (length, past), rows, kept in zip(case.texts, self.rows, self.kept, strict=True):
            q = rows[:, : case.heads * case.dim].unflatten(1, (case.heads, case.dim)).double()
            group = case.heads // case.key_heads
            k, v = (own.double().repeat_interleave(group, 1) for own in kept)
            at, key = torch.arange(past, past + length)[:, None], torch.arange(past + length)
            seen = key <= at if case.window is None else (key <= at) & (key > at - case.window)
            scores = torch.einsum("qhd,khd->hqk", q, k) * case.dim**-0.5
            weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
            found.append(torch.einsum("hqk,khd->qhd", weights, v).flatten(1))
        return found


CASES = {
    "a text": Case([(256, 0)]),
    "with past": Case([(256, 256)]),
    "odd past": Case([(100, 77)], size=16),
    "a key short of a chunk": Case([(100, 62)]),
    "few": Case([(16, 3)]),
    "half a strip and one": Case([(17, 0)], size=4),
    "several": Case([(70, 0), (33, 130), (128, 5)], size=16),
    "long and short": Case([(1, 40), (90, 31), (5, 0), (64, 64), (1, 0)], size=4, threads=2),
    "blocks of 4": Case([(90, 31)], size=4),
    "blocks of 24": Case([(150, 31)], size=24),
    "blocks of 128": Case([(150, 31)], size=128),
    "window": Case([(200, 90), (40, 0)], size=16, window=50),
    "window of more than a chunk": Case([(200, 90)], window=121),
    "narrow window": Case([(100, 300)], size=4, window=3),
    "wide window": Case([(100, 150)], window=1000),
    "own keys for every head": Case([(130, 40)], heads=3, key_heads=3, threads=2),
    "one key head": Case([(130, 40)], heads=16, key_heads=1, threads=2),
    "dim 16": Case([(130, 40)], dim=16),
    "dim 48": Case([(130, 40)], dim=48),
    "dim 80": Case([(70, 300)], dim=80),
    "dim 128": Case([(130, 200)], dim=128, threads=2),
    "dim 256": Case([(100, 40)], dim=256),
    "sharp": Case([(130, 200)], sharp=30.0),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_beside_float64(case: Case, attend_step: Any) -> None:
    packed = Packed(case)
    for found, meant in zip(packed.attended(attend_step), packed.meant(), strict=True):
        # Rounded queries move scores by 2^-9 of themselves: much, where scores are hundreds.
        apart, usual = (found - meant).abs(), meant.abs().mean()
        assert apart.max() <= (0.08 if case.sharp == 1 else 0.4) * usual
        assert apart.mean() <= 5e-3 * usual


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_text_does_not_depend_on_the_others(threads: int, attend_step: Any) -> None:
    texts = [(90, 31), (3, 50), (256, 0), (33, 64), (1, 9)]
    for window in (None, 40):
        together = Packed(Case(texts, size=16, window=window, threads=threads))
        for text, found in zip(texts, together.attended(attend_step), strict=True):
            alone = Packed(Case([text], size=16, window=window)).attended(attend_step)
            assert torch.equal(found, alone[0]), text


def test_what_is_no_number_stays_with_its_query(attend_step: Any) -> None:
    packed = Packed(Case([(70, 100)]))
    packed.rows[0][5, :64] = torch.nan  # the first head of a token
    (found,) = packed.attended(attend_step)
    assert found[5, :64].isnan().all()
    found[5, :64] = 0
    assert found.isfinite().all()


# -- models ----------------------------------------------------------------------

SIZES: dict[str, Any] = dict(
    vocab_size=200,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    max_position_embeddings=512,
)
MODELS: list[tuple[type, type, dict[str, Any]]] = [
    (LlamaConfig, LlamaForCausalLM, {}),
    (Qwen3Config, Qwen3ForCausalLM, {"num_key_value_heads": 1}),
    (MistralConfig, MistralForCausalLM, {"sliding_window": 24}),
]
STEPS = (((40, 0), (1, 0)), ((100, 40), (30, 1)), ((1, 140), (2, 31)))  # (tokens, past) of texts


@torch.inference_mode()
def answers(
    own: Any, size: int, cache: str = "auto", **options: Any
) -> tuple[list[Tensor], PackedModel]:
    """Logits of every token of the steps, and the model, closed."""
    packed = PackedModel(own, prepack=True, **options)
    lanes, lane_of = packed.lanes(128, size)
    pages = PageStore([lane.pool.total for lane in lanes], size, lane_of, cache)
    order = torch.randperm(128, generator=torch.Generator().manual_seed(1)).tolist()
    found = []
    for texts in STEPS:
        segments, start = [], 0
        for i, (length, past) in enumerate(texts):
            tables = [order[64 * i : 64 * i + 64]] * len(lanes)
            segments.append(Segment(start, length, past, tables))
            start += length
        ids = torch.randint(0, 200, (1, start), generator=torch.Generator().manual_seed(start))
        at = [p for segment in segments for p in range(segment.past, segment.total)]
        with stepping(Step(segments, pages, lanes, torch.device("cpu"))):
            out = packed.forward(ids, torch.tensor([at]), torch.arange(start))
        found.append(out.float())
    packed.close()
    return found, packed


def check_against_modules(own: Any, size: int, cache: str, most: float) -> None:
    own = own.eval().to(BF16)
    ours, packed = answers(own, size, cache)
    assert packed.native is not None and set(packed.native.served.values()) == {"C"}
    theirs, _ = answers(own, size, cache, layers="off")
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= most * b.abs().max()


@pytest.mark.usefixtures("attend_step")
@pytest.mark.parametrize("size", [4, 16, 32])
@pytest.mark.parametrize(("config", "kind", "more"), MODELS, ids=lambda own: str(own)[-30:])
def test_models_give_what_their_modules_give(
    config: type,
    kind: type,
    more: dict[str, Any],
    size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoder_layer, "MOST", 256)
    torch.manual_seed(0)
    check_against_modules(kind(config(**SIZES | more)), size, "auto", 3e-2)


@pytest.mark.usefixtures("attend_step")
def test_pages_of_8_bits_are_left_to_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_layer, "MOST", 256)
    torch.manual_seed(0)
    check_against_modules(LlamaForCausalLM(LlamaConfig(**SIZES)), 16, "int8", 5e-2)

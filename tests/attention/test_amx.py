"""Our kernel for AMX against float64, and what it promises beside: bits, threads, refusals."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mindsd import native
from mindsd.attention import amx
from mindsd.attention.amx import Amx
from mindsd.attention.amx_call import amx_library
from mindsd.attention.contract import Call, Varlen
from mindsd.attention.cpu import Reference
from mindsd.attention.registry import Registry
from mindsd.attention.sdpa import Sdpa
from mindsd.attention.selftest import self_test

CPU = torch.device("cpu")
LOWEST = torch.finfo(torch.bfloat16).min
# torch's flash kernel errs by 2.2e-3 of the answer; where it takes another, exact one, by what
# rounding to bfloat16 leaves. Ours may err by 1.5 times the first in any case.
ROUNDING = 2.0e-3


class Counted(Sdpa):
    """torch's answers to what the kernel gave back."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, call: Call) -> Tensor:
        self.runs += 1
        return super().run(call)


class Whole(Amx):
    """Takes calls of any size, and counts those that it gives to torch."""

    def __init__(self) -> None:
        super().__init__()
        self._torch = self.given = Counted()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Whole:
    if isinstance(reason := amx_library(), str):
        pytest.skip(reason)
    monkeypatch.setattr(amx, "QUERIES", 0)
    monkeypatch.setattr(amx, "SCORES", 0)
    return Whole()


@pytest.fixture
def backend() -> Amx:
    if isinstance(reason := amx_library(), str):
        pytest.skip(reason)
    return Amx()


@pytest.fixture
def fresh() -> Iterator[None]:
    native.load.cache_clear()
    amx_library.cache_clear()
    yield
    native.load.cache_clear()
    amx_library.cache_clear()


def drawn(*shape: int, seed: int = 0, size: float = 1.0) -> Tensor:
    return (size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).bfloat16()


def square(batch: int = 2, tokens: int = 200, dim: int = 64, size: float = 1.0) -> Call:
    q, k, v = (drawn(batch, 4, tokens, dim, seed=i, size=size) for i in range(3))
    return Call(q, k, v / size)


def alike(tensor: Tensor, varlen: Varlen | None = None) -> Call:
    return Call(tensor, tensor, tensor, varlen=varlen)


def exact(call: Call) -> Tensor:
    mask = call.mask
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.double()
    return Reference().run(
        replace(call, q=call.q.double(), k=call.k.double(), v=call.v.double(), mask=mask)
    )


def error(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want).norm() / want.norm().clamp_min(1e-30))


def check(kernel: Amx, call: Call) -> None:
    got, want = kernel.run(call), exact(call)
    assert got.shape == want.shape and got.dtype == torch.bfloat16
    allowed = 1.5 * max(error(Sdpa().run(call), want), ROUNDING)
    assert error(got, want) <= allowed


class Draw:
    """Calls of any kind, by a seed."""

    def __init__(self, seed: int):
        self.choice, self.random = random.Random(seed).choice, random.Random(seed).random
        self.numbers = torch.Generator().manual_seed(seed)

    def tensor(self, *shape: int, size: float = 1.0) -> Tensor:
        """[B, H, T, D], heads or tokens first in memory, or a part of something larger."""
        batch, heads, tokens, dim = shape
        layout = self.choice(("heads", "tokens", "part", "columns"))
        if layout == "heads":
            made = torch.randn(batch, heads, tokens, dim, generator=self.numbers)
        elif layout == "tokens":
            made = torch.randn(batch, tokens, heads, dim, generator=self.numbers).transpose(1, 2)
        elif layout == "part":
            made = torch.randn(batch, heads, tokens, dim + 6, generator=self.numbers)
            return (size * made).bfloat16()[..., 3 : dim + 3]
        else:
            made = torch.randn(batch, heads, dim, tokens, generator=self.numbers).mT
        return (size * made).bfloat16()

    def bounds(self, tokens: int, sequences: int) -> tuple[int, ...]:
        inner = sorted(self.choice(range(tokens + 1)) for _ in range(sequences - 1))
        return (0, *inner, tokens)

    def mask(self, *full: int) -> Tensor | None:
        batch, heads, queries, keys = full
        shape = [self.choice((1, size)) for size in full]
        if (kind := self.choice(("none", "bool", "bias", "wide bias", "hides", "pads"))) == "none":
            return None
        if kind == "pads":
            return (torch.arange(keys) < self.choice(range(1, keys + 1))).view(1, 1, 1, keys)
        noise = torch.rand(shape, generator=self.numbers)
        if kind == "bool":
            return noise < self.choice((0.1, 0.5, 0.9))
        if kind == "hides":
            hidden = torch.zeros(shape).masked_fill(noise < 0.5, -math.inf)
            return hidden.to(self.choice((torch.float32, torch.bfloat16)))
        return 30 * noise if kind == "wide bias" else (4 * noise).bfloat16()

    def call(self) -> Call:
        choice = self.choice
        dim = choice((32, 34, 40, 64, 72, 80, 96, 128, 160, 192, 256, 512))
        value_dim = choice((dim, dim, dim, 16, 33, 128))
        batch, kv_heads, groups = choice((1, 2, 3)), choice((1, 2)), choice((1, 1, 3))
        queries = choice((2, 31, 32, 33, 64, 77, 130, 300))
        keys = choice((1, 5, 32, 33, 77, 256, 270, 500))
        size = choice((1, 1, 1, 3, 12, 40))
        reach = (choice((-1, 0, 3, 40, 200)), choice((-1, 0, 5, 64)))
        packed = self.random() < 0.25
        batch = 1 if packed else batch
        sequences = choice((1, 2, 4))
        return Call(
            self.tensor(batch, kv_heads * groups, queries, dim, size=size),
            self.tensor(batch, kv_heads, keys, dim, size=size),
            self.tensor(batch, kv_heads, keys, value_dim),
            mask=None if packed else self.mask(batch, kv_heads * groups, queries, keys),
            causal=choice((False, False, True)),
            window=choice((None, None, reach)),
            scale=choice((None, None, 0.05, 1.0, -0.2)),
            varlen=Varlen(self.bounds(queries, sequences), self.bounds(keys, sequences))
            if packed
            else None,
        )


@pytest.mark.parametrize("seed", range(10))
def test_calls_of_any_kind(seed: int, kernel: Whole):
    draw = Draw(seed)
    for _ in range(12):
        call = draw.call()
        assert kernel.refuses(call) is None
        check(kernel, call)
    assert kernel.given.runs == 0


@pytest.mark.parametrize("dim", [*range(32, 130, 14), 160, 224, 320, 512])
def test_every_head_size(dim: int, kernel: Whole):
    check(kernel, square(1, 70, dim))
    assert kernel.given.runs == 0


@pytest.mark.parametrize("size", [3, 8, 40])
def test_logits_far_apart(size: int, kernel: Whole):
    call = square(1, 300, 40, size)
    check(kernel, call)
    check(kernel, replace(call, causal=True))
    late = call.k.clone()
    late[:, :, -7:] *= 30  # higher than anything in the chunks that are looked at first
    check(kernel, replace(call, k=late))
    early = call.k.clone()
    early[:, :, :32] *= 30
    check(kernel, replace(call, k=early, mask=torch.arange(300).view(1, 1, 1, -1) >= 32))
    slope = -(torch.arange(300).view(-1, 1) - torch.arange(300)).abs().view(1, 1, 300, 300)
    check(kernel, replace(call, mask=(slope * 0.5).bfloat16()))
    assert kernel.given.runs == 0


@pytest.mark.parametrize("size", [1, 12])
def test_rows_that_see_nothing_give_zeros(size: int, kernel: Whole):
    call = square(2, 100, size=size)
    keep = torch.ones(2, 1, 100, 100, dtype=torch.bool)
    keep[0, :, 40] = keep[1, :, 64:] = False
    hides = torch.zeros(2, 1, 100, 100).masked_fill(~keep, -math.inf)
    longer = replace(call, k=call.k[:, :, :30], v=call.v[:, :, :30])
    seen = keep.any(-1)[:, 0]
    for masked in (replace(call, mask=keep), replace(call, mask=hides)):
        out = kernel.run(masked).transpose(1, 2)
        assert (out[~seen] == 0).all() and (out[seen] != 0).any(-1).all()
    assert (kernel.run(replace(call, mask=keep[:1, :, 40:41])) == 0).all()
    assert (kernel.run(replace(longer, causal=True))[:, :, :70] == 0).all()
    check(kernel, replace(longer, window=(2, 2)))
    assert (kernel.run(replace(call, k=call.k[:, :, :0], v=call.v[:, :, :0])) == 0).all()
    assert kernel.given.runs == 0


def spoiled(call: Call, name: str, value: float) -> Call:
    """The second entry with a number changed."""
    tensor = getattr(call, name).clone()
    tensor[1, 0, 3, 3] = value
    return replace(call, **{name: tensor})


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e37])
def test_what_it_cannot_compute_with_goes_to_torch(name: str, value: float, kernel: Whole):
    call = spoiled(square(3), name, value)
    out = kernel.run(call)
    assert kernel.given.runs == 1
    (_, middle) = list(amx.parts(call, out))[1]
    torch.testing.assert_close(out[1:2], Sdpa().run(middle), rtol=0, atol=0, equal_nan=True)
    healthy = kernel.run(square(3))
    assert torch.equal(out[0::2], healthy[0::2])


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("at", [3, 150])
def test_biases_that_it_cannot_add_go_to_torch(value: float, at: int, kernel: Whole):
    mask = torch.zeros(2, 1, 200, 200)
    mask[1, 0, 50, at] = value
    call = replace(square(2), mask=mask)
    out = kernel.run(call)
    assert kernel.given.runs == 1
    torch.testing.assert_close(out[1:], Sdpa().run(call)[1:], rtol=0, atol=0, equal_nan=True)


def test_a_row_of_lowest_numbers_weighs_all_keys_alike(kernel: Whole):
    """As models of transformers pad: such a mask hides keys, but not all of a row."""
    mask = torch.zeros(2, 1, 200, 200).masked_fill(torch.arange(200) < 40, LOWEST).bfloat16()
    check(kernel, replace(square(2), mask=mask))
    assert kernel.given.runs == 0
    mask[0, :, 7] = LOWEST
    check(kernel, replace(square(2), mask=mask))
    assert kernel.given.runs == 1


CHANGES = {
    "plain": {},
    "causal": {"causal": True},
    "window": {"window": (40, 3)},
    "far": {"scale": 4.0},
    "bool": {"mask": torch.rand(1, 1, 200, 200, generator=torch.Generator().manual_seed(5)) < 0.6},
    "bias": {"mask": drawn(1, 4, 200, 200, seed=6)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_entry_is_the_same_alone_and_in_company(change: str, backend: Amx):
    batch = replace(square(5, 200), **CHANGES[change])
    assert backend.refuses(batch) is None
    together = backend.run(batch)
    for i in range(5):
        alone = replace(batch, q=batch.q[i : i + 1], k=batch.k[i : i + 1], v=batch.v[i : i + 1])
        assert backend.refuses(alone) is None
        assert torch.equal(together[i : i + 1], backend.run(alone))


def test_a_sequence_is_the_same_alone_and_packed(backend: Amx):
    bounds = (0, 200, 210, 210, 333, 600)
    q, k, v = (drawn(1, 4, 600, 64, seed=i) for i in range(3))
    packed = Call(q, k, v, causal=True, varlen=Varlen(bounds, bounds))
    assert backend.refuses(packed) is None
    out, registry = backend.run(packed), Registry([backend, Sdpa()], [])
    names = []
    for place, part in amx.parts(packed, out):
        assert torch.equal(place, registry.run(part))
        names.append(registry.choose(part).name)
    assert names == ["amx", "sdpa", "sdpa", "amx", "amx"]


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_bits_with_any_number_of_threads(change: str, backend: Amx):
    call, before = replace(square(3, 200, 80), **CHANGES[change]), torch.get_num_threads()
    first = backend.run(call)
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert torch.equal(first, backend.run(call))
    finally:
        torch.set_num_threads(before)


def test_python_threads_do_not_disturb_each_other(backend: Amx):
    calls = [square(1 + i % 3, 100 + 40 * i, 32 + 16 * (i % 4)) for i in range(8)]
    want = [backend.run(call) for call in calls]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(4):
            found = list(pool.map(backend.run, calls))
            assert all(map(torch.equal, found, want))


def test_torchs_own_tiles_are_left_alone(backend: Amx):
    call = square()
    weight = drawn(256, 256)
    before = Sdpa().run(call), weight @ weight
    backend.run(call)
    after = Sdpa().run(call), weight @ weight
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3)])
def test_it_is_laid_out_as_torch_lays_it_out(order: tuple[int, ...], backend: Amx):
    shape = [(2, 4, 200, 64)[i] for i in order]
    q = drawn(*shape).permute(*order)
    assert backend.run(alike(q)).stride() == Sdpa().run(alike(q)).stride()


def test_it_is_chosen_where_it_wins(backend: Amx):
    assert self_test(backend, CPU, torch.bfloat16) is None
    for name, call in backend.trials(CPU, torch.bfloat16).items():
        assert backend.refuses(call) is None, name
        assert not any(amx.left_out(call)), name
    registry = Registry()
    assert registry.choose(square()).name == "amx"
    assert registry.choose(square(tokens=20)).name == "sdpa"
    assert registry.outdoes_torch(CPU, torch.bfloat16)
    assert not registry.outdoes_torch(CPU, torch.float32)


REFUSED = {
    "tensors are on meta, it computes on cpu": alike(torch.empty(1, 4, 99, 64, device="meta")),
    "it computes bfloat16, not torch.float32": alike(torch.zeros(1, 4, 99, 64)),
    "head_dim 65 is not even and 32 to 512": alike(drawn(1, 4, 99, 65)),
    "head_dim 24 is not even and 32 to 512": alike(drawn(1, 4, 99, 24)),
    "head_dim 514 is not even": alike(drawn(1, 4, 99, 514)),
    "head_dim 600 of the values is over 512": Call(
        drawn(1, 4, 99, 64), drawn(1, 4, 99, 64), drawn(1, 4, 99, 600)
    ),
    "gradients are asked for": alike(drawn(1, 4, 200, 64).requires_grad_()),
    "1 queries over 4000 keys in 4 heads are too few": Call(
        drawn(1, 4, 1, 64), drawn(1, 4, 4000, 64), drawn(1, 4, 4000, 64)
    ),
    "64 queries over 9 keys in 4 heads are too few": Call(
        drawn(1, 4, 64, 64), drawn(1, 4, 9, 64), drawn(1, 4, 9, 64)
    ),
    "99 queries over 99 keys in 4 heads are too few": alike(drawn(1, 4, 99, 128)),
    "in 4 heads, of 2 sequences, are too few": alike(
        drawn(1, 4, 99, 64), Varlen((0, 50, 99), (0, 50, 99))
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_refusals(words: str):
    assert words in str(Amx().refuses(REFUSED[words]))


@pytest.mark.usefixtures("fresh")
def test_switched_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(native.OFF, "off")
    assert Amx().refuses(square()) == "native kernels are off (MINDSD_NATIVE=off)"
    assert Registry().choose(square()).name == "sdpa"
    assert not Registry().outdoes_torch(CPU, torch.bfloat16)


@pytest.mark.usefixtures("fresh")
def test_a_processor_without_tiles(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "cpu_facts", lambda: ("some CPU", ("avx2", "avx512_bf16")))
    assert Amx().refuses(square()) == "this processor has no amx_bf16"

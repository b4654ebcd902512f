"""Our operators in Triton against the formulas, and the models of transformers that use them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mindsd.attention import fused_operators
from mindsd.attention.fused_operators import add_rms_norm, rms_norm, rotate, swiglu
from mindsd.attention.npu_fused import fuse
from tests.attention.interpreted import DEVICE, GPU, once, run_again, runs
from tests.zoo.decoders import decoder, prompts

pytest.importorskip("triton")
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if GPU else [])]
TOLERANCES = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 4e-2}


@pytest.fixture(autouse=True)
def by_triton(monkeypatch):
    monkeypatch.setattr(fused_operators, "CUDA", (DEVICE,))
    monkeypatch.setattr("mindsd.attention.npu_fused.CUDA", (DEVICE,))


def drawn(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return made.to(DEVICE, dtype)


def alike(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    apart = (found.float() - expected.float()).abs().max()
    assert apart <= TOLERANCES[found.dtype] * max(1.0, float(expected.abs().max()))


@runs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [576, 31])
def test_norms(dtype, width):
    x, other = drawn(2, 5, width, dtype=dtype), drawn(2, 5, width, dtype=dtype, seed=1)
    weight = drawn(width, dtype=dtype, seed=2)
    alike(rms_norm(x, weight, 1e-5), F.rms_norm(x, (width,), weight, 1e-5))
    apart = x.mT.contiguous().mT  # its rows do not lie together
    alike(rms_norm(apart, weight, 1e-5), F.rms_norm(x, (width,), weight, 1e-5))
    normed, summed = add_rms_norm(x, other, weight, 1e-5)
    alike(summed, x + other)
    alike(normed, F.rms_norm(x + other, (width,), weight, 1e-5))


@runs
def test_epsilon_is_added_where_the_model_adds_it():
    x, weight = drawn(1, 3, 40, dtype=torch.float32) * 1e-3, torch.ones(40, device=DEVICE)
    alike(rms_norm(x, weight, 1e-5), F.rms_norm(x, (40,), weight, 1e-5))


@runs
def test_a_row_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="rows of 20000"):
        rms_norm(torch.zeros(1, 20000, device=DEVICE), torch.ones(20000, device=DEVICE), 1e-5)


@runs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1536, 1025, 7])
def test_gates(dtype, width):
    both = drawn(1, 3, 2 * width, dtype=dtype)
    gate, up = both.chunk(2, -1)
    alike(swiglu(both), F.silu(gate) * up)


@runs
@pytest.mark.parametrize("mode", ["half", "interleave"])
@pytest.mark.parametrize("dim", [64, 10])
def test_rotations(mode, dim):
    x = drawn(2, 5, 3 * dim, dtype=torch.float32).view(2, 5, 3, dim).transpose(1, 2)
    for batch in (1, 2):
        cos = drawn(batch, 1, 5, dim, dtype=torch.float32, seed=1)
        sin = drawn(batch, 1, 5, dim, dtype=torch.float32, seed=2)
        if mode == "half":
            first, second = x.chunk(2, -1)
            turned = torch.cat((-second, first), -1)
        else:
            turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
        found = rotate(x, cos, sin, mode)
        alike(found, x * cos + turned * sin)
        assert found.stride() == x.stride()


@runs
@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral", "olmo2"])
def test_a_model_gives_what_it_gave(kind):
    model = decoder(kind).to(DEVICE)
    ids = torch.tensor([prompts(1)[0]], device=DEVICE)
    with torch.inference_mode():
        expected = model(ids).logits
        with fuse(model, (DEVICE,)) as fused:
            assert fused.served
            found = model(ids).logits
        again = model(ids).logits
    alike(found, expected)
    assert torch.equal(again, expected)


@once
def test_all_of_it_in_the_interpreter():
    run_again(__file__)

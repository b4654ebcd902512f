"""A call that contradicts itself is refused when it is made, with its numbers."""

import pytest
import torch

from mindsd.attention.contract import Call, Varlen
from mindsd.errors import RequestError


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


def test_a_mask_gets_four_dimensions():
    tokens = zeros(1, 2, 3, 4)
    for given, kept in (((3,), (1, 1, 1, 3)), ((3, 3), (1, 1, 3, 3))):
        mask = Call(tokens, tokens, tokens, mask=zeros(*given)).mask
        assert mask is not None and mask.shape == kept


def test_causal_cuts_a_window():
    tokens = zeros(1, 2, 3, 4)
    assert Call(tokens, tokens, tokens, window=(5, 2)).band == (5, 2)
    assert Call(tokens, tokens, tokens, window=(5, 2), causal=True).band == (5, 0)
    assert Call(tokens, tokens, tokens).band == (-1, -1)


@pytest.mark.parametrize(
    "q, k, v, words",
    [
        ((2, 3, 4), (2, 3, 4), (2, 3, 4), r"\[batch, heads, tokens, head_dim\]; got q \(2, 3, 4\)"),
        ((2, 4, 5, 8), (1, 4, 5, 8), (1, 4, 5, 8), "batch sizes differ"),
        ((2, 4, 5, 8), (2, 4, 5, 8), (2, 4, 6, 8), "k and v must have the same heads and tokens"),
        ((2, 4, 5, 8), (2, 4, 5, 4), (2, 4, 5, 8), "same head_dim"),
        ((2, 4, 5, 0), (2, 4, 5, 0), (2, 4, 5, 8), "at least 1"),
        ((2, 4, 5, 8), (2, 3, 5, 8), (2, 3, 5, 8), "query heads must be a multiple"),
    ],
)
def test_shapes(q, k, v, words):
    with pytest.raises(RequestError, match=words):
        Call(zeros(*q), zeros(*k), zeros(*v))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"mask": zeros(2, 1, 5, 7)}, r"mask \(2, 1, 5, 7\) does not broadcast .* \(2, 4, 5, 6\)"),
        ({"mask": zeros(1, 1, 1, 5, 6)}, "does not broadcast"),
        ({"mask": zeros(5, 6, dtype=torch.int64)}, "mask must be bool, float32"),
        ({"mask": zeros(5, 6, dtype=torch.float16)}, "got torch.float16"),
        ({"mask": zeros(5, 6).to("meta")}, "mask lies on meta"),
        ({"window": (-2, 0)}, r"got \(-2, 0\)"),
        ({"window": (1, 2, 3)}, r"got \(1, 2, 3\)"),
        ({"scale": float("nan")}, "scale must be finite; got nan"),
        ({"varlen": Varlen((0, 5), (0, 6))}, "got batch 2"),
    ],
)
def test_options(options, words):
    with pytest.raises(RequestError, match=words):
        Call(zeros(2, 4, 5, 8), zeros(2, 4, 6, 8), zeros(2, 4, 6, 8), **options)


def test_dtypes_and_devices():
    one, other = zeros(1, 1, 2, 8), zeros(1, 1, 2, 8, dtype=torch.float16)
    with pytest.raises(RequestError, match="torch.float32, torch.float16"):
        Call(one, other, one)
    whole = zeros(1, 1, 2, 8, dtype=torch.int32)
    with pytest.raises(RequestError, match="floating dtype"):
        Call(whole, whole, whole)
    with pytest.raises(RequestError, match="cpu, meta, cpu"):
        Call(one, one.to("meta"), one)


def test_packed_calls():
    q, k = zeros(1, 2, 5, 8), zeros(1, 2, 6, 8)
    with pytest.raises(RequestError, match=r"end at \(5, 7\)"):
        Call(q, k, k, varlen=Varlen((0, 5), (0, 7)))
    with pytest.raises(RequestError, match="takes no mask"):
        Call(q, k, k, varlen=Varlen((0, 5), (0, 6)), mask=zeros(5, 6))
    for bad in (((0, 5), (0, 3, 6)), ((0,), (0,)), ((1, 5), (0, 6)), ((0, 5, 4), (0, 3, 6))):
        with pytest.raises(RequestError, match="varlen"):
            Varlen(*bad)


def test_a_packed_call_falls_into_its_sequences():
    q = torch.arange(5.0).reshape(1, 1, 5, 1)
    call = Call(q, q, q, varlen=Varlen((0, 2, 5), (0, 3, 5)), causal=True, window=(1, 0), scale=2.0)
    first, second = call.sequences()
    assert first.q.flatten().tolist() == [0, 1] and first.k.flatten().tolist() == [0, 1, 2]
    assert second.q.flatten().tolist() == [2, 3, 4] and second.k.flatten().tolist() == [3, 4]
    assert second.causal and second.window == (1, 0) and second.scale == 2.0
    assert second.varlen is None

"""xFormers against a stand-in of its interface, which computes from what it was given alone."""

import importlib.machinery
import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch

from mindsd.attention.contract import Call
from mindsd.attention.xformers import XFormers, cannot


class LowerTriangularFromBottomRightMask:
    def dense(self, tq, tk):
        return torch.ones(tq, tk).tril(tk - tq) == 0


@dataclass
class BlockDiagonalMask:
    q_lengths: list[int]
    k_lengths: list[int]

    @classmethod
    def from_seqlens(cls, q_seqlen, kv_seqlen):
        return cls(q_seqlen, kv_seqlen)

    def dense(self, tq, tk):
        pairs = zip(self.q_lengths, self.k_lengths, strict=True)
        seen = torch.block_diag(*(self.block(q, k) for q, k in pairs))
        assert seen.shape == (tq, tk)
        return seen == 0

    def block(self, q, k):
        return torch.ones(q, k)


class BlockDiagonalCausalFromBottomRightMask(BlockDiagonalMask):
    def block(self, q, k):
        return torch.ones(q, k).tril(k - q)


def memory_efficient_attention(query, key, value, attn_bias=None, p=0.0, scale=None):
    """[B, tokens, heads, D], as xFormers documents it; its limits are checked, not forgiven."""
    assert p == 0.0 and query.shape[2] == key.shape[2] and query.shape[3] % 8 == 0
    q, k, v = (tensor.transpose(1, 2).double() for tensor in (query, key, value))
    scores = q @ k.mT * (query.shape[3] ** -0.5 if scale is None else scale)
    if isinstance(attn_bias, torch.Tensor):
        assert attn_bias.dtype == query.dtype and attn_bias.shape == scores.shape
        assert all(stride % 8 == 0 for stride in attn_bias.stride()[:-1])
        scores = scores + attn_bias.double()
    elif attn_bias is not None:
        scores = scores.masked_fill(attn_bias.dense(*scores.shape[2:]), float("-inf"))
    return (scores.softmax(-1) @ v).to(query.dtype).transpose(1, 2)


@pytest.fixture
def xformers(monkeypatch):
    names = ("xformers", "xformers.ops", "xformers.ops.fmha", "xformers.ops.fmha.attn_bias")
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    ops = modules["xformers.ops"]
    ops.__dict__["memory_efficient_attention"] = memory_efficient_attention
    for kind in (
        LowerTriangularFromBottomRightMask,
        BlockDiagonalMask,
        BlockDiagonalCausalFromBottomRightMask,
    ):
        setattr(modules["xformers.ops.fmha.attn_bias"], kind.__name__, kind)
    return XFormers()


REFUSED = {
    "causal, more queries": "causal with more queries than keys",
    "windowed": "window (2, 1)",
    "windowed to the left": "window (3, -1)",
    "windowed and causal and masked": "window (4, 4)",
    "window beyond all keys": "window (1, 1)",
    "grouped heads": "grouped heads (2 to a key head)",
    "grouped heads, bool mask": "grouped heads (4 to a key head)",
    "no keys": "a sequence has no tokens",
    "varlen, an empty sequence": "window (1, 0)",
}


def test_nothing_is_dropped(xformers, case, dtype, call, check):
    reason = cannot(call)
    if case == "float32 bias" and dtype == torch.bfloat16:
        assert reason == "its bias must be torch.bfloat16, got torch.float32"
    elif case in REFUSED:
        assert REFUSED[case] in str(reason)
    else:
        assert reason is None
        check(xformers.run(call), call)


def test_refuses_by_the_device_of_the_tensors(xformers):
    q = torch.zeros(1, 2, 4, 8)
    assert xformers.installed
    assert xformers.refuses(Call(q, q, q)) == "tensors are on cpu, it computes on cuda only"


@pytest.mark.parametrize(
    "dtype, dim, words",
    [
        (torch.float64, 8, "not torch.float64"),
        (torch.float32, 12, "head_dim (12, 12) is not a multiple of 8"),
    ],
)
def test_what_its_kernels_lack(dtype, dim, words):
    q = torch.zeros(1, 2, 4, dim, dtype=dtype)
    assert words in str(cannot(Call(q, q, q)))

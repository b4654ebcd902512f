"""The table of calls that every backend answers or refuses, and naive float64 answers."""

import math

import pytest
import torch

from mindsd.attention.contract import Call, Varlen

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def table(dtype, device="cpu"):
    """What is asked -> a function that makes the call; D is 16, B 2, H 4."""
    generator = torch.Generator().manual_seed(7)

    def tensor(*shape):
        return torch.randn(shape, generator=generator).to(device, dtype)

    def call(tq, tk, kv_heads=4, value_dim=16, batch=2, **options):
        k = tensor(batch, kv_heads, tk, 16)
        return Call(tensor(batch, 4, tq, 16), k, tensor(batch, kv_heads, tk, value_dim), **options)

    keep = (torch.rand(2, 4, 9, 9, generator=generator) > 0.3).to(device)
    keep[..., 0] = True
    blind = keep.clone()
    blind[0, 1, 4] = False
    bias = tensor(2, 1, 9, 9)
    return {
        "no mask": lambda: call(9, 9),
        "scale": lambda: call(9, 9, scale=0.6),
        "wide values": lambda: call(9, 9, value_dim=24),
        "bool mask": lambda: call(9, 9, mask=keep),
        "bool mask over keys": lambda: call(9, 9, mask=keep[:, :1, :1]),
        "additive bias": lambda: call(9, 9, mask=bias),
        "float32 bias": lambda: call(9, 9, mask=bias.float()),
        "bias without a batch": lambda: call(9, 9, mask=bias[0, 0]),
        "causal": lambda: call(9, 9, causal=True),
        "causal with a bias": lambda: call(9, 9, causal=True, mask=bias),
        "causal, more keys": lambda: call(5, 9, causal=True),
        "causal, more queries": lambda: call(9, 5, causal=True),
        "windowed": lambda: call(9, 9, window=(2, 1)),
        "windowed to the left": lambda: call(9, 12, window=(3, -1)),
        "windowed and causal and masked": lambda: call(9, 9, window=(4, 4), causal=True, mask=keep),
        "window beyond all keys": lambda: call(12, 3, window=(1, 1)),
        "grouped heads": lambda: call(9, 9, kv_heads=2),
        "grouped heads, bool mask": lambda: call(9, 9, kv_heads=1, mask=keep),
        "cross": lambda: call(5, 12),
        "cross, one key": lambda: call(5, 1),
        "no keys": lambda: call(5, 0),
        "varlen": lambda: call(9, 12, batch=1, varlen=Varlen((0, 2, 5, 9), (0, 4, 5, 12))),
        "varlen, causal": lambda: call(
            9, 12, batch=1, varlen=Varlen((0, 2, 9), (0, 4, 12)), causal=True
        ),
        "varlen, an empty sequence": lambda: call(
            5, 5, batch=1, varlen=Varlen((0, 2, 2, 5), (0, 0, 3, 5)), window=(1, 0)
        ),
        "an all-masked row, bool": lambda: call(9, 9, mask=blind),
        "an all-masked row, bias": lambda: call(
            9, 9, mask=torch.zeros_like(bias).masked_fill(~blind[:, 1:2], -math.inf)
        ),
    }


CASES = list(table(torch.float32))


def naive(call):
    """Row by row, key by key, as the contract's words say it. float64 on the CPU."""
    q, k, v = (tensor.cpu().double() for tensor in (call.q, call.k, call.v))
    out = torch.zeros(*q.shape[:3], v.shape[3], dtype=torch.float64)
    scale = call.scale if call.scale is not None else q.shape[3] ** -0.5
    bounds = call.varlen or Varlen((0, q.shape[2]), (0, k.shape[2]))
    pieces = list(zip(bounds.q, bounds.q[1:], bounds.k, bounds.k[1:], strict=False))
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            kv = h * k.shape[1] // q.shape[1]
            for q0, q1, k0, k1 in pieces:
                for i in range(q0, q1):
                    here = (i - q0) + (k1 - k0) - (q1 - q0)
                    seen = [j for j in range(k0, k1) if allowed(call, here, j - k0)]
                    scores = {j: bias(call, b, h, i, j) for j in seen}
                    scores = {
                        j: s + scale * float(q[b, h, i] @ k[b, kv, j]) for j, s in scores.items()
                    }
                    top = max(scores.values(), default=-math.inf)
                    if top > -math.inf:
                        weights = {j: math.exp(s - top) for j, s in scores.items()}
                        total = sum(weights.values())
                        for j, weight in weights.items():
                            out[b, h, i] += weight / total * v[b, kv, j]
    return out


def allowed(call, here, j):
    left, right = call.window or (-1, -1)
    behind = left < 0 or j >= here - left
    ahead = right < 0 or j <= here + right
    return behind and ahead and not (call.causal and j > here)


def bias(call, *at):
    if call.mask is None:
        return 0.0
    full = call.mask.expand(*call.q.shape[:3], call.k.shape[2])[at]
    if call.mask.dtype == torch.bool:
        return 0.0 if bool(full) else -math.inf
    return float(full)


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request):
    return getattr(torch, request.param)


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


@pytest.fixture
def call(case, dtype, device):
    return table(dtype, device)[case]()


@pytest.fixture
def check():
    """Fails unless a tensor is what the naive answer says, to its dtype's accuracy."""

    def compare(got, call):
        want = naive(call)
        assert got.dtype == call.q.dtype and got.device == call.q.device
        assert got.shape == want.shape
        tolerance = 1e-2 if got.dtype == torch.bfloat16 else 2e-6
        torch.testing.assert_close(got.cpu().double(), want, rtol=tolerance, atol=tolerance)

    return compare

"""What torch can take as it stands reaches torch as it stands."""

import pytest
import torch
import torch.nn.functional as F

from mindsd.attention.contract import Call
from mindsd.attention.sdpa import Sdpa


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"causal": True},
        {"mask": torch.randn(1, 1, 12, 12) > -1},
        {"mask": torch.randn(2, 1, 1, 12)},
    ],
)
def test_bit_identical_to_torch(options):
    q, k, v = (torch.randn(2, 4, 12, 16) for _ in range(3))
    want = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=options.get("mask"),
        is_causal=options.get("causal", False),
        scale=options.get("scale"),
    )
    assert torch.equal(Sdpa().run(Call(q, k, v, **options)), want)


def test_no_mask_is_built_for_a_causal_square(monkeypatch):
    seen = {}

    def record(q, k, v, **options):
        seen.update(options)
        return v

    monkeypatch.setattr(F, "scaled_dot_product_attention", record)
    q = torch.randn(1, 2, 5, 8)
    Sdpa().run(Call(q, q, q, causal=True))
    assert seen["is_causal"] is True and seen["attn_mask"] is None


def test_a_float32_bias_beside_float64():
    q = torch.randn(1, 2, 5, 8, dtype=torch.float64)
    bias = torch.randn(5, 5)
    want = (q @ q.mT / 8**0.5 + bias).softmax(-1) @ q
    torch.testing.assert_close(Sdpa().run(Call(q, q, q, mask=bias)), want)

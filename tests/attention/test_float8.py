"""8-bit floating point: which layers, and what is refused; with torchao also the numbers.

torchao asks for a GPU of some age; where it does not ask, torch computes the same on a CPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from mindsd.attention import float8
from mindsd.attention.compiled import compile_blocks
from mindsd.attention.compiled_kind import ROUNDED
from mindsd.attention.float8 import cannot_float8, takes_float8, to_float8
from mindsd.attention.image_layers import lay_below
from mindsd.attention.twin import Twin
from mindsd.errors import RequestError
from tests.attention import models

HALF = torch.bfloat16


def test_refusals_by_name(monkeypatch: pytest.MonkeyPatch):
    assert "NVIDIA GPUs only; the model is on cpu" in str(cannot_float8("cpu", HALF))
    assert "the model is in float16" in str(cannot_float8("cuda", torch.float16))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert "compute capability 8.9; this one has 8.0" in str(cannot_float8("cuda", HALF))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(float8, "find_spec", lambda name: None)
    assert "needs torchao: pip install 'mindsd[quant]'" in str(cannot_float8("cuda", HALF))
    monkeypatch.setattr(float8, "find_spec", lambda name: name)
    assert cannot_float8("cuda", HALF) is None


def test_a_model_of_narrow_layers_is_refused():
    model = models.pixart()[0]
    with pytest.raises(RequestError, match="no layer of PixArtTransformer2DModel is taken"):
        lay_below("fp8", {"transformer": model})


@pytest.mark.parametrize(
    ("name", "layer", "taken"),
    [
        ("attn1.to_q", nn.Linear(512, 1024), True),
        ("ff.net.2", nn.Linear(1024, 512), True),
        ("norm1.linear", nn.Linear(512, 1024), False),
        ("time_emb_proj", nn.Linear(1024, 512), False),
        ("attn1.to_q", nn.Linear(512, 256), False),
        ("attn1.to_q", nn.Linear(520, 512), False),
        ("attn1.to_q", nn.Conv2d(512, 512, 1), False),
    ],
)
def test_which_layers(name: str, layer: nn.Module, taken: bool):
    assert takes_float8(name, layer) == taken


def wide() -> Any:
    """A model of one block that is wide enough."""
    torch.manual_seed(0)
    model: Any = nn.Module()
    model.blocks = nn.ModuleList([BasicTransformerBlock(512, 8, 64)])
    return model.eval().to(HALF)


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchao")
    from torchao.quantization import quant_api  # pyright: ignore[reportMissingImports]

    monkeypatch.setattr(quant_api, "_check_hardware_support", lambda asked: None)


def test_the_model_itself_keeps_its_weights(on_a_cpu: None):
    block: Any = wide().blocks[0]
    twin = Twin(block)
    before, bare = block.attn1.to_q.weight, twin.bare
    to_float8(twin)
    rounded: Any = bare.attn1.to_q  # pyright: ignore[reportAttributeAccessIssue]
    assert type(rounded.weight).__name__ == "Float8Tensor" and block.attn1.to_q.weight is before
    assert rounded.bias is block.attn1.to_q.bias and twin.holds()
    with torch.no_grad():
        before.mul_(2)
    assert not twin.holds()


@torch.inference_mode()
def test_compiled_blocks_compute_in_8_bits(on_a_cpu: None):
    model = wide()
    x = torch.randn(2, 16, 512).to(HALF)
    wanted = model.blocks[0](x)
    with compile_blocks(model, "eager", to_float8, ROUNDED) as compiled:
        model.blocks[0](x)
        found = model.blocks[0](x)
        assert not compiled.wrong
        apart = float((found - wanted).abs().max() / wanted.abs().max())
        assert 1e-3 < apart < ROUNDED
    assert torch.equal(model.blocks[0](x), wanted)

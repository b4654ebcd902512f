"""The switch for what stands beside attention, on whole paths: off, fused, and in 8 bits.

8 bits are held against a CPU whose same layers compute W8A8 in plain torch, float16 on both sides:
what is left is rounding, and what 8 bits themselves cost is seen beside it.
"""

from __future__ import annotations

import copy
from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import torch

from mindsd.errors import RequestError
from tests.attention.emulated_w8a8 import emulated
from tests.npu.device.paths import (
    ASKED,
    GREEDY,
    NEW,
    PICTURES,
    PROMPTS,
    levels,
    on_cpu,
    opened,
    text_generation,
)

HALF = torch.float16
EIGHT = ("npu_dynamic_quant", "npu_quant_matmul")
BESIDE = {"npu_rms_norm", "npu_add_rms_norm", "npu_rotary_mul", "npu_swiglu", "npu_geglu"}


@pytest.fixture
def narrow(monkeypatch):
    """Tiny models have layers that count as large."""
    from mindsd.attention import npu_linear

    monkeypatch.setattr(npu_linear, "LEAST", 16)


def drawn_by_emulation(name: str, served: dict[str, Any]) -> Any:
    """On the CPU, with the same layers in 8 bits by plain torch."""
    with opened(name, "cpu", HALF) as own, ExitStack() as undone:
        for part, names in served.items():
            undone.enter_context(emulated(own.pipe.components[part], names))
        return levels(own(PROMPTS, **ASKED, options=PICTURES[name]).images)


def likeliest(model: Any, text: list[int], said: list[int]) -> bool:
    """Whether every token is the likeliest on the CPU, but for what rounding may turn over."""
    with torch.inference_mode():
        logits = model(torch.tensor([text + said])).logits[0, len(text) - 1 : -1]
    lead = logits.amax(-1) - logits.gather(1, torch.tensor(said)[:, None])[:, 0]
    # .030 was seen where the processor adds in half precision; wrong ones are off by tenths
    return bool(lead.max() <= 0.05 * logits.abs().max())


@pytest.mark.parametrize("name", ["sd", "sd3", "flux"])
def test_pictures_in_8_bits(npu, narrow, name):
    with opened(name, "npu", HALF, layers="w8a8") as own:
        served = {part: list(fused.served) for part, fused in own.model.quantized.items()}
        assert list(served) == ["unet" if name == "sd" else "transformer"]
        npu.log.clear()
        images = levels(own(PROMPTS, **ASKED, options=PICTURES[name]).images)
        asked, pipe = Counter(npu.log.ops()), own.pipe
    count = sum(map(len, served.values()))
    steps = 2
    assert count and all(asked[operator] >= steps * count for operator in EIGHT)
    expected = drawn_by_emulation(name, served)
    apart, cost = abs(images - expected), abs(images - on_cpu(name))
    # A number that is rounded to its other neighbour is off by 1/127 of its row, which is what 8
    # bits cost anyhow; most pixels are the very same.
    assert apart.max() <= max(3, cost.max()) and apart.mean() <= 0.5
    assert 0 < cost.max() <= 40
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    assert not any("forward" in vars(own) for part in parts for own in part.modules())


def test_texts_in_8_bits(npu):
    from tests.zoo.decoders import decoder, prompts

    wide = {"head_dim": 128, "hidden_size": 512, "intermediate_size": 512}
    model, texts = decoder("llama", **wide), prompts(4)
    with torch.no_grad():  # as wide as it is, it would be chaotic
        for parameter in model.parameters():
            parameter.mul_(0.2 if parameter.dim() > 1 else 1)
    there = copy.deepcopy(model).half().to("npu")
    with text_generation(there, layers="w8a8") as own:
        served = own.model.packed._quantized.served
        assert len(served) and set(served.values()) == {"npu_quant_matmul"}
        npu.log.clear()
        found = [list(one.tokens) for one in own(texts, max_tokens=NEW, **GREEDY)]
        asked = Counter(npu.log.ops())
    assert all(asked[operator] for operator in EIGHT) and "npu_swiglu" not in asked
    assert not any("forward" in vars(own) for own in there.modules())
    with emulated(model.get_decoder(), list(served)):
        assert all(map(partial(likeliest, model), texts, found))


def test_off_leaves_the_layers_to_the_libraries(npu):
    from tests.zoo.decoders import decoder, prompts

    with text_generation(decoder("llama", head_dim=128).half().to("npu"), layers="off") as own:
        assert own.model.packed._fused is None
        npu.log.clear()
        own(prompts(1), max_tokens=2, **GREEDY)
        assert not BESIDE & set(npu.log.ops())
    with opened("sd", "npu", layers="off") as own:
        assert not own.model.fused and not own.model.quantized
        npu.log.clear()
        images = levels(own(PROMPTS, **ASKED).images)
        [geglu] = {call["approximate"] for call in npu.log.calls if call.op == "npu_geglu"}
    assert geglu == 1  # diffusers' own, by tanh
    assert abs(images - on_cpu("sd")).max() <= 2


def test_refusals_by_name(npu):
    from tests.zoo.decoders import decoder

    with pytest.raises(RequestError, match="operators of Ascend NPUs only; the model is on cpu"):
        opened("sd", "cpu", HALF, layers="w8a8")
    with pytest.raises(RequestError, match="the model is in float32"):
        opened("sd", "npu", layers="w8a8")
    with pytest.raises(RequestError, match="no layer of UNet2DConditionModel is taken"):
        opened("sd", "npu", HALF, layers="w8a8")
    with pytest.raises(RequestError, match="no layer of LlamaModel is taken"):
        text_generation(decoder("llama").half().to("npu"), layers="w8a8")

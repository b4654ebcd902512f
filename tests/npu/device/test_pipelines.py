"""Whole paths on the simulated device: pictures, texts, talks about pictures, as on the CPU.

Noise is drawn on the CPU, so one seed draws one picture everywhere.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from typing import Any

import pytest
import torch

from tests.npu.device.child import printed
from tests.npu.device.paths import (
    ASKED,
    GREEDY,
    NEW,
    PICTURES,
    PROMPTS,
    answers,
    levels,
    on_cpu,
    opened,
    text_generation,
)

LEVELS = {torch.float32: 1, torch.float16: 2, torch.bfloat16: 10}  # of 256, from float32's
# What is fused beside attention, in all components.
BESIDE = {
    "sd": {"npu_geglu": 4},
    "sdxl": {"npu_geglu": 4},
    "sd3": {"npu_rms_norm": 3},
    "flux": {"npu_rms_norm": 9},
}
MATH = "aten::softmax.int"  # what attention is made of where no operator is fused
FUSED, DENSE = "npu_fused_infer_attention_score", "npu_fusion_attention"
WRITE = "npu_scatter_pa_kv_cache"
DECODER = {"npu_rms_norm", "npu_add_rms_norm", "npu_rotary_mul", "npu_swiglu"}


def calls_of_t5(pipe: Any) -> list[str]:
    """Grows by one for each call of T5's attention, which transformers has in plain operations."""
    calls: list[str] = []
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    for own in (own for part in parts for own in part.modules()):
        if type(own).__name__ == "T5Attention":
            own.register_forward_hook(lambda *_: calls.append("T5"))
    return calls


@pytest.mark.parametrize("dtype", LEVELS)
@pytest.mark.parametrize("name", PICTURES)
def test_pictures(npu, name, dtype):
    with opened(name, "npu", dtype) as own:
        fused = own.model.fused.values()
        assert Counter(op for part in fused for op in part.served.values()) == BESIDE[name]
        assert not any(part.left for part in fused)
        plainly = calls_of_t5(own.pipe)
        npu.log.clear()
        images = own(PROMPTS, **ASKED, options=PICTURES[name]).images
        asked = Counter(npu.log.ops())
        assert own.model.attached.calls and not own.model.attached.passed
        assert asked[DENSE] >= own.model.attached.calls
        assert all(asked[operator] for operator in BESIDE[name])
        assert npu.log.kernels[MATH] == len(plainly)
        pipe = own.pipe
    assert abs(levels(images) - on_cpu(name)).max() <= LEVELS[dtype]
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    assert not any("forward" in vars(own) for part in parts for own in part.modules())


def test_another_seed_is_another_picture(npu):
    with opened("sd", "npu") as own:
        images = levels(own(PROMPTS, **{**ASKED, "seed": 8}).images)
    assert abs(images - on_cpu("sd", 8)).max() <= 1
    assert abs(images - on_cpu("sd")).max() > 50


def test_plain_attention_is_torch_s_own_choice(npu):
    """With attention="off" torch_npu's dispatch answers, which takes none of these by math."""
    from mindsd.pipelines.text_to_image import TextToImage
    from tests.zoo.cases import CASES

    pipe = CASES["sd"].build().to("npu")
    with TextToImage.load(pipe, device="npu", attention="off") as own:
        npu.log.clear()
        images = own(PROMPTS, **ASKED).images
    asked = Counter(npu.log.ops())
    assert own.model.attached is None and asked["npu_fusion_attention_v3"] and not asked[DENSE]
    assert abs(levels(images) - on_cpu("sd")).max() <= 1


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3"])
def test_texts_on_pages(npu, kind):
    """Heads of 128: all attention is fused, decoding waits for nothing but what it drew."""
    from mindsd.kvcache.pages import NpuPages
    from tests.zoo.decoders import decoder, generated, prompts

    model, texts = decoder(kind, head_dim=128).half(), prompts(4)
    expected = [generated(model, text, NEW) for text in texts]
    with text_generation(model.to("npu")) as own:
        packed = own.model.packed
        assert set(packed._fused.served.values()) == DECODER and not packed._fused.left
        npu.log.clear()
        found = own(texts, max_tokens=NEW, **GREEDY)
        assert [list(one.tokens) for one in found] == expected
        asked = Counter(npu.log.ops())
        assert asked[FUSED] and asked[WRITE] and DECODER <= set(asked)
        assert not npu.log.kernels[MATH]
        assert waits(own, npu, 24) - waits(own, npu, 8) == Counter({"copy to the host": 16 * 3})
        probe = torch.zeros(1, 1, 128, dtype=torch.float16, device="npu")
        assert isinstance(own.model.runner.pages.of(0, 0, probe, probe)[0], NpuPages)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_texts_in_float32(npu, kind):
    """The paged operator computes in 16 bits only; what is not fused is right as well."""
    from tests.zoo.decoders import decoder, generated, prompts

    model, texts = decoder(kind), prompts(4)
    expected = [generated(model, text, NEW) for text in texts]
    with text_generation(model.to("npu")) as own:
        found = own(texts, max_tokens=NEW, **GREEDY)
        assert [list(one.tokens) for one in found] == expected
        assert FUSED not in npu.log.ops()


def waits(own: Any, npu: Any, tokens: int) -> Counter[str]:
    """Where the host waits for a text of so many tokens: three small results of each draw."""
    npu.log.clear()
    own([5, 6, 7, tokens], max_tokens=tokens, **GREEDY)
    return npu.log.host_syncs.copy()


@pytest.mark.parametrize("family", ["qwen3_vl", "llava", "llava_onevision"])
def test_talks_about_pictures(npu, family):
    from tests.zoo.vision import vision_case

    case = vision_case(family)
    expected = answers(case, copy.deepcopy(case.model))
    npu.log.clear()
    assert answers(case, copy.deepcopy(case.model).half().to("npu")) == expected
    asked = Counter(npu.log.ops())
    assert asked[FUSED] and asked[WRITE] and asked[DENSE] and DECODER <= set(asked)


@pytest.mark.parametrize("name", ["sd", "sd3"])
def test_a_model_on_the_cpu_beside_an_npu_is_left_alone(npu, name):
    """By diffusers, too, whose GEGLU and RMSNorm would ask the NPU's operators."""
    with opened(name, "cpu") as own:
        npu.log.clear()
        images = own(PROMPTS, **ASKED, options=PICTURES[name]).images
        assert not any(part.served or part.left for part in own.model.fused.values())
    assert not npu.log.ops() and not npu.log.kernels
    assert (levels(images) == on_cpu(name)).all()


@pytest.mark.parametrize("soc, dtype", [("Ascend910_9391", "bfloat16"), ("Ascend310P3", "float16")])
def test_auto_on_other_chips(soc, dtype):
    code = (
        "from tests.npu.simulator.tier1 import start; start(); "
        "from mindsd.device import find_device; own = find_device(); print(own.name, own.dtype)"
    )
    assert printed("-c", code, FAKE_NPU_SOC=soc) == f"{soc} torch.{dtype}"


@pytest.mark.parametrize(
    ("soc", "drawn", "told"),
    [
        ("Ascend910_9391", {DENSE, "npu_geglu", "npu_rms_norm"}, {FUSED, WRITE, *DECODER}),
        ("Ascend950PR_9579", {DENSE, "npu_geglu", "npu_rms_norm"}, {FUSED, WRITE, *DECODER}),
        (
            "Ascend310P3",
            {"npu_prompt_flash_attention", "npu_geglu", "npu_rms_norm"},
            {"npu_rms_norm"},
        ),
    ],
)
def test_paths_on_other_chips(soc, drawn, told):
    """On a 310P it is diffusers that asks npu_geglu, and pages are attended to plainly."""
    found = json.loads(printed("-m", "tests.npu.device.paths", FAKE_NPU_SOC=soc))
    assert max(found["levels"].values()) <= LEVELS[torch.float16] and found["same text"]
    assert drawn <= set(found["drawn by"]) and told <= set(found["told by"])
    assert (FUSED in found["told by"]) == (FUSED in told)


def test_doctor_says_who_answers(npu):
    from mindsd.app.attention_cases import explain
    from mindsd.app.machine import look
    from mindsd.app.page_cases import explain_pages

    (seen,) = [seen for seen in look().devices if seen.kind == "npu"]
    assert (seen.name, seen.features, seen.dtype) == ("Ascend910B1", ("910B",), "bfloat16")
    assert {answer.backend for answer in explain(["npu"])} == {"npu"}
    assert [answer.backend for answer in explain_pages(["npu"])] == ["npu pages"]

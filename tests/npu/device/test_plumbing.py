"""The device seen from above: `mindsd doctor`, memory figures, memory that runs out, seeds."""

from __future__ import annotations

import gc
import json

import pytest
import torch

from tests.npu.device.child import printed
from tests.npu.device.paths import ASKED, GREEDY, levels, on_cpu, opened, text_generation

MIB = 2**20
ROOM = 41 * MIB  # the allocator's large blocks are of 20: two
DOCTOR = (
    "from tests.npu.simulator.tier1 import start; start()\n"
    "import sys; sys.argv = ['mindsd', 'doctor', '--json']\n"
    "from mindsd.app.cli import main; main()"
)


@pytest.fixture
def runtime():
    """torch.npu, its memory bounded by nothing afterwards."""
    own = torch.get_device_module("npu")
    yield own
    own.set_per_process_memory_fraction(1.0)


def held(runtime) -> int:
    gc.collect()
    runtime.empty_cache()
    return runtime.memory_reserved()


@pytest.mark.parametrize(
    ("soc", "dtype", "pages"),
    [("Ascend910B1", "bfloat16", "npu pages"), ("Ascend310P3", "float16", "paged")],
)
def test_doctor(soc, dtype, pages):
    told = json.loads(printed("-c", DOCTOR, FAKE_NPU_SOC=soc, FAKE_NPU_MEMORY="4096"))
    [seen] = [one for one in told["devices"] if one["kind"] == "npu"]
    assert told["auto"] == "npu" and told["versions"]["torch_npu"]
    assert (seen["name"], seen["dtype"]) == (soc, dtype)
    assert 0 < seen["free"] <= seen["total"] == 4096 * MIB
    rows = [row for row in told["attention"] if row["device"] == "npu"]
    assert {row["case"]: row["backend"] for row in rows}["image to itself"] == "npu"
    assert rows[-1]["backend"] == pages
    beside = {row["operator"]: row["answers"] for row in told["layers"] if row["device"] == "npu"}
    assert beside["npu_rms_norm"] is True
    assert beside["npu_swiglu"] is (soc == "Ascend910B1")


def test_memory_figures(npu, runtime):
    from mindsd.device import find_device
    from mindsd.pipelines.peak import Peak

    place = find_device("npu")
    before = place.free()
    with Peak("npu") as peak:
        x = torch.ones(64 * MIB, dtype=torch.uint8, device="npu")
        assert before - place.free() >= x.nbytes
        del x
    assert peak.bytes is not None and peak.bytes >= 64 * MIB


def test_a_group_that_runs_out_of_memory_is_split(npu, runtime):
    """torch_npu's own allocator refuses six pictures at once; every one comes out all the same."""
    from mindsd.pipelines.parameters import ImageParameters
    from tests.zoo.drawing import held as waiting

    total = runtime.mem_get_info()[1]
    asked = ImageParameters("a red circle", **{**ASKED, "width": 64, "height": 64})
    with opened("sd", "npu") as own:
        alone = levels([own.submit(asked).result(300)])
        runtime.set_per_process_memory_fraction((held(runtime) + ROOM) / total)
        with waiting(own.engine):
            requests = [own.submit(asked) for _ in range(6)]
        images = levels([request.result(300) for request in requests])
        assert own.engine.counts.splits
    assert abs(images - alone).max() <= 1


def test_what_does_not_fit_even_alone_is_said(npu, runtime):
    from mindsd.errors import OutOfMemory

    total = runtime.mem_get_info()[1]
    with opened("sd", "npu") as own:
        runtime.set_per_process_memory_fraction(held(runtime) / total)
        with pytest.raises(OutOfMemory, match="does not fit in memory even alone"):
            own("a", **{**ASKED, "width": 128, "height": 128})
        runtime.set_per_process_memory_fraction(1.0)
        assert own("a", **ASKED).images  # the engine lives on


def test_seeds_are_the_cpu_s(npu):
    """Noise and draws come from the CPU, whatever the device's own generator says."""
    from tests.zoo.decoders import decoder, prompts

    drawn = []
    for seed in (1, 2):
        torch.get_device_module("npu").manual_seed(seed)
        with opened("sd", "npu") as own:
            drawn.append(levels(own(["a red circle"], **ASKED).images))
    assert (drawn[0] == drawn[1]).all() and abs(drawn[0] - on_cpu("sd")[:1]).max() <= 1
    how = {**GREEDY, "temperature": 1.0, "seed": 5, "max_tokens": 12}
    told = []
    for device in ("cpu", "npu"):
        with text_generation(decoder("llama").to(device)) as own:
            told.append([list(one.tokens) for one in own(prompts(2), **how)])
    assert told[0] == told[1]

"""What torch's own attention does on each chip: notes of mindsd's NPU backend rest on this."""

import json

import pytest

from tests.npu.device.child import printed

PLAIN = "mode 0 mask None"
FUSED = {
    "fp16": PLAIN,
    "bf16": PLAIN,
    "fp32": PLAIN,
    "fp32 D=33": "math",
    "fp16 D=33": PLAIN,
    "fp16 D=576": "math",
    "bool mask [B,1,S,S]": "mode 0 mask (2, 1, 16, 16)",
    "bool mask [B,1,1,S]": "mode 0 mask (2, 4, 16, 16)",
    "bool mask [B,N,1,S]": "mode 0 mask (2, 4, 16, 16)",
    "bool mask [S,S]": "mode 0 mask (16, 16)",
    "float mask": "math",
    "causal": "mode 2 mask (2048, 2048)",
    "causal, more keys": "mode 2 mask (2048, 2048)",
    "grouped heads": PLAIN,
    "3-D": "math",
    "one query": PLAIN,
}


def test_on_the_chip_of_these_tests(npu):
    from tests.npu.device.sdpa_table import table

    assert table(npu) == FUSED


@pytest.mark.parametrize("soc", ["Ascend910_9391", "Ascend310P3"])
def test_on_other_chips(soc):
    found = json.loads(printed("-m", "tests.npu.device.sdpa_table", FAKE_NPU_SOC=soc))
    assert found == (dict.fromkeys(FUSED, "math") if soc == "Ascend310P3" else FUSED)

"""mindsd where torch_npu, CANN or the device is missing: it says so and uses the CPU."""

from mindsd.device import find_device, why_absent
from tests.npu.device.child import printed, run

ASKED = (
    "from mindsd.device import find_device, why_absent; "
    "print(find_device().kind, why_absent('npu'))"
)
STARTED = "from tests.npu.simulator.tier1 import load_cann; load_cann(); import torch_npu; "

GONE = "import sys; sys.modules['torch_npu'] = None\n"  # as if it were not installed
DRAWN = (
    "from tests.npu.device.paths import ASKED, levels, opened\n"
    "with opened('sd', 'cpu') as own: print(levels(own('a fox', **ASKED).images).shape)"
)


def test_no_torch_npu():
    kind, _, reason = printed("-c", GONE + ASKED).partition(" ")
    assert kind == "cpu" and "pip install 'mindsd[npu]'" in reason
    assert printed("-c", GONE + DRAWN) == "(1, 32, 32, 3)"


def test_torch_itself_does_not_load_without_cann():
    done = run("-c", "import torch", TORCH_DEVICE_BACKEND_AUTOLOAD="1")
    assert done.returncode != 0 and "Failed to load the backend extension" in done.stderr


def test_torch_npu_without_cann():
    kind, _, reason = printed("-c", ASKED).partition(" ")
    assert kind == "cpu" and "set_env.sh" in reason


def test_cann_without_a_device():
    kind, _, reason = printed("-c", STARTED + ASKED, FAKE_NPU_COUNT="0").partition(" ")
    assert kind == "cpu" and "sees no NPU" in reason


def test_with_a_device():
    assert (find_device().kind, why_absent("npu")) == ("npu", None)

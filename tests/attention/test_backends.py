"""One table: every backend answers as the naive float64 code does, or refuses in words."""

import importlib.util

import pytest
import torch

from mindsd.attention.registry import Registry

REGISTRY = Registry()

# Where a backend may refuse, and the words that it must then say. Not listed: it must answer.
XFORMERS_ON_CUDA = {
    "float32 bias": "bias must be torch.bfloat16",  # in float32 it is the tensors' own dtype
    "causal, more queries": "causal with more queries than keys",
    "windowed": "window (2, 1)",
    "windowed to the left": "window (3, -1)",
    "windowed and causal and masked": "window (4, 4)",
    "window beyond all keys": "window (1, 1)",
    "grouped heads": "grouped heads (2 to a key head)",
    "grouped heads, bool mask": "grouped heads (4 to a key head)",
    "no keys": "no tokens",
    "varlen, an empty sequence": "window (1, 0)",
}


def refusal(backend, case, call):
    """The words that the table expects of this backend, or None."""
    if backend == "npu":
        missing = importlib.util.find_spec("torch_npu") is None
        return "torch_npu is not installed" if missing else f"tensors are on {call.q.device.type}"
    if backend == "amx":  # the table's heads are narrower than it takes: test_amx.py has its own
        if call.q.device.type != "cpu":
            return "it computes on cpu only"
        narrow = call.q.dtype == torch.bfloat16
        return "head_dim 16 is not even and 32 to 512" if narrow else "it computes bfloat16"
    if backend == "xformers":
        if importlib.util.find_spec("xformers") is None:
            return "xformers is not installed"
        if call.q.device.type != "cuda":
            return "tensors are on cpu"
        if case == "float32 bias" and call.q.dtype == call.mask.dtype:
            return None
        return XFORMERS_ON_CUDA.get(case)
    return None


@pytest.mark.parametrize("backend", REGISTRY.backends, ids=lambda backend: backend.name)
def test_answers_or_refuses(backend, case, call, check):
    words = refusal(backend.name, case, call)
    reason = backend.refuses(call)
    if words is None:
        assert reason is None
        check(backend.run(call), call)
    else:
        assert words in reason


def test_the_chosen_one_answers(call, check):
    check(REGISTRY.run(call), call)

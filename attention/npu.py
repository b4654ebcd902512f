"""Ascend NPU. Its fused kernel is not called yet; on an NPU torch_npu's own sdpa answers."""

from __future__ import annotations

import importlib.util

from torch import Tensor

from mindsd.errors import AttentionRefused

from .contract import Call


class Npu:
    """Refuses every call, and says why."""

    name = "npu"

    def __init__(self) -> None:
        self.installed = importlib.util.find_spec("torch_npu") is not None

    def refuses(self, call: Call) -> str | None:
        if not self.installed:
            return "torch_npu is not installed"
        if call.q.device.type != "npu":
            return f"tensors are on {call.q.device.type}, it computes on npu only"
        return "npu_fusion_attention is not called by this version"

    def run(self, call: Call) -> Tensor:
        raise AttentionRefused(f"npu: {self.refuses(call)}")

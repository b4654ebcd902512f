"""What `--layers` puts beside attention on this machine: rows of `mindsd doctor`.

Imports torch, diffusers and transformers; the commands import this file when they run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers.models.activations import GEGLU
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from mindsd.attention.npu_fused import fuse
from mindsd.attention.npu_linear import LEAST
from mindsd.attention.npu_w8a8 import quantize
from mindsd.device import Device, find_device
from mindsd.errors import RequestError

AUTO = ("npu_rms_norm", "npu_add_rms_norm", "npu_rotary_mul", "npu_swiglu", "npu_geglu")
EIGHT_BITS = "npu_quant_matmul"
NONE = "this chip has no such operator"


@dataclass(frozen=True)
class Beside:
    """An operator that could answer for layers, and whether it gave here what they give.

    Attributes:
        layers: what `--layers` must say for it.
        why: it does not answer.
    """

    operator: str
    device: str
    layers: str
    answers: bool
    why: str = ""


def explain_layers(kinds: Sequence[str]) -> list[Beside]:
    """Every operator, tried on small layers; none where no device has any."""
    return [row for kind in kinds if kind == "npu" for row in _explain(find_device(kind))]


def _explain(device: Device) -> Iterator[Beside]:
    model = _example().eval().to(device.torch, device.dtype)
    with fuse(model) as fused:
        answering = set(fused.served.values())
        reasons = dict(left.split(" ", 1) for left in fused.left.values())
    for operator in AUTO:
        why = "" if operator in answering else reasons.get(operator, NONE)
        yield Beside(operator, device.kind, "auto", operator in answering, why)
    try:
        quantize(model).remove()
        yield Beside(EIGHT_BITS, device.kind, "w8a8", True)
    except RequestError as reason:
        yield Beside(EIGHT_BITS, device.kind, "w8a8", False, str(reason))


def _example() -> nn.Module:
    """A decoder layer and a gate of a UNet, large enough for 8 bits."""
    config = LlamaConfig(
        hidden_size=LEAST,
        intermediate_size=LEAST,
        num_hidden_layers=1,
        num_attention_heads=4,
        vocab_size=8,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        return nn.ModuleList([LlamaForCausalLM(config), GEGLU(LEAST, LEAST)])

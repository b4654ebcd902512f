"""What is chosen on this machine's CPU, and why: rows of `mindsd doctor`.

Imports torch and diffusers; the commands import this file when they run. Kernels in C are built
here, if they were not before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mindsd import allocator
from mindsd.attention import cpu_fused_kernels
from mindsd.attention.contract import Call
from mindsd.attention.decoder_product import library
from mindsd.attention.registry import default_registry
from mindsd.device import SMALL_MODEL, fast_dtype, find_device
from mindsd.prepack import packable

TOKENS, HEADS, DIM = 1024, 8, 64  # of a call that is worth a kernel of its own
MIB = 2**20


@dataclass(frozen=True)
class Choice:
    """One thing that is decided by what the processor is.

    Attributes:
        what: that is decided.
        choice: what was chosen.
        why: the reason, and what changes it.
    """

    what: str
    choice: str
    why: str


def cpu_choices(cores: int) -> list[Choice]:
    """All of them.

    Args:
        cores: that this process may use.
    """
    large = find_device("cpu").dtype
    return [
        Choice("dtype of large models", _name(large), _why_dtype(large)),
        Choice(
            f"dtype under {SMALL_MODEL // MIB} MiB",
            _name(fast_dtype(find_device("cpu"), 0)),
            "narrow layers: conversions cost more than they save; --dtype changes it",
        ),
        Choice("threads", str(torch.get_num_threads()), f"{cores} cores; OMP_NUM_THREADS says it"),
        _attention(large),
        _of_c("decoder layers, few tokens", library(large), "one call for all of them"),
        _of_c("norms, activations", cpu_fused_kernels.why_absent(), "one pass each, large models"),
        _weights(large),
        _memory(),
    ]


def _attention(dtype: torch.dtype) -> Choice:
    q = torch.zeros(1, HEADS, TOKENS, DIM, dtype=dtype)
    registry = default_registry()
    chosen = registry.choose(Call(q, q, q)).name
    reasons = dict(registry.explain(Call(q, q, q)))
    why = "fastest that does not refuse and passed its self-test"
    if reasons.get("amx") is not None:
        why = f"amx: {reasons['amx']}"
    return Choice(f"attention in {_name(dtype)}", chosen, why)


def _of_c(what: str, found: object, why: str) -> Choice:
    """Whether a library is there; `found` is a sentence where it is not."""
    return Choice(what, "plain", found) if isinstance(found, str) else Choice(what, "in C", why)


def _weights(dtype: torch.dtype) -> Choice:
    if packable(nn.Linear(1, 1, dtype=dtype)):
        return Choice("weights of large layers", "laid out by oneDNN", "read in its own order")
    return Choice("weights of large layers", "plain", f"oneDNN multiplies no {_name(dtype)} here")


def _memory() -> Choice:
    if reason := allocator.why_absent():
        return Choice("memory of large tensors", "given back", reason)
    why = "no fresh pages at every layer; while large image models are loaded"
    return Choice("memory of large tensors", f"kept to {allocator.MOST // MIB} MiB", why)


def _why_dtype(dtype: torch.dtype) -> str:
    if dtype is torch.bfloat16:
        return "the processor multiplies it; --dtype float32 is more precise"
    return "the processor multiplies no bfloat16, and float16 runs at this speed"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

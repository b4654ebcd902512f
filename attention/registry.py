"""Which backend answers: the fastest that does not refuse and passed its self-test."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock

import torch
from torch import Tensor

from mindsd.errors import AttentionRefused

from .contract import Backend, Call
from .cpu import Reference
from .npu import Npu
from .sdpa import Sdpa
from .selftest import self_test
from .xformers import XFormers


class Registry:
    """An ordered tuple of backends, and what their self-tests said.

    A backend is tested once for each kind of device and dtype, before its first call there.
    """

    def __init__(self, backends: Sequence[Backend] | None = None):
        fastest_first = (Npu(), XFormers(), Sdpa(), Reference())
        self.backends = fastest_first if backends is None else tuple(backends)
        self._verdicts: dict[tuple[Backend, str, torch.dtype], str | None] = {}
        self._lock = Lock()

    def run(self, call: Call) -> Tensor:
        """The answer of the chosen backend: [B, H, Tq, Dv], in q's dtype.

        Raises:
            AttentionRefused: no backend takes this call.
        """
        return self.choose(call).run(call)

    def choose(self, call: Call) -> Backend:
        """The first backend that takes this call.

        Raises:
            AttentionRefused: none does; the message lists each reason.
        """
        reasons = []
        for backend in self.backends:
            reason = self._passed_over(backend, call)
            if reason is None:
                return backend
            reasons.append(f"{backend.name}: {reason}")
        asked = f"{call.q.dtype} q {tuple(call.q.shape)} on {call.q.device}"
        raise AttentionRefused(f"no attention backend takes {asked}: " + "; ".join(reasons))

    def outdoes_torch(self, device: torch.device, dtype: torch.dtype) -> bool:
        """Whether plain self-attention there is answered by another backend than torch's own.

        Where it is not, a diffusers model makes the very call that we would make, and attaching to
        it would only cost the way through Python.
        """
        q = torch.zeros(1, 1, 8, 64, device=device, dtype=dtype)
        return not isinstance(self.choose(Call(q, q, q)), Sdpa)

    def explain(self, call: Call) -> list[tuple[str, str | None]]:
        """Every backend's name and why it would be passed over; None where it takes the call."""
        return [(backend.name, self._passed_over(backend, call)) for backend in self.backends]

    def _passed_over(self, backend: Backend, call: Call) -> str | None:
        refusal = backend.refuses(call)
        return refusal if refusal is not None else self._verdict(backend, call.q)

    def _verdict(self, backend: Backend, tensor: Tensor) -> str | None:
        key = (backend, tensor.device.type, tensor.dtype)
        if key not in self._verdicts:
            with self._lock:
                if key not in self._verdicts:
                    self._verdicts[key] = self._test(backend, tensor)
        return self._verdicts[key]

    def _test(self, backend: Backend, tensor: Tensor) -> str | None:
        wrong = self_test(backend, tensor.device, tensor.dtype)
        if wrong is None:
            return None
        where = f"{tensor.dtype} on {tensor.device.type}"
        warnings.warn(
            f"attention backend {backend.name} failed its self-test for {where} ({wrong}); "
            "it is passed over",
            RuntimeWarning,
            stacklevel=2,
        )
        return f"failed its self-test for {where} ({wrong})"


@lru_cache(maxsize=1)
def default_registry() -> Registry:
    """The registry that everything shares unless it is given one of its own."""
    return Registry()

"""Which backend answers: the fastest that does not refuse and passed its self-test."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial
from threading import Lock

import torch
from torch import Tensor

from mindsd.errors import AttentionRefused

from .amx import Amx
from .contract import Backend, Call
from .cpu import Reference
from .npu import Npu
from .npu_paged import NpuPaged
from .paged_call import PagedBackend, PagedCall
from .paged_selftest import self_test_pages
from .paged_triton import TritonPaged
from .sdpa import Sdpa
from .selftest import self_test
from .xformers import XFormers


class Registry:
    """An ordered tuple of backends, and what their self-tests said.

    A backend is tested once for each kind of device and dtype, before its first call there; one for
    pages for each shape of heads, too.
    """

    def __init__(
        self,
        backends: Sequence[Backend] | None = None,
        paged: Sequence[PagedBackend] | None = None,
    ):
        fastest_first = (Npu(), Amx(), XFormers(), Sdpa(), Reference())
        self.backends = fastest_first if backends is None else tuple(backends)
        self.paged = (NpuPaged(), TritonPaged()) if paged is None else tuple(paged)
        self.paged_devices = frozenset(kind for own in self.paged for kind in own.devices)
        self._verdicts: dict[Hashable, str | None] = {}
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
        it would only cost the way through Python. Asked with a layer as image models have them:
        some backends leave small calls to torch.
        """
        q = torch.zeros(1, 8, 1024, 64, device=device, dtype=dtype)
        return not isinstance(self.choose(Call(q, q, q)), Sdpa)

    def explain(self, call: Call) -> list[tuple[str, str | None]]:
        """Every backend's name and why it would be passed over; None where it takes the call."""
        return [(backend.name, self._passed_over(backend, call)) for backend in self.backends]

    def choose_paged(self, call: PagedCall) -> PagedBackend | None:
        """The first backend that takes this call over pages; None: plain operations answer."""
        return next((own for own in self.paged if self._paged_over(own, call) is None), None)

    def explain_paged(self, call: PagedCall) -> list[tuple[str, str | None]]:
        """As `explain`, for pages."""
        return [(backend.name, self._paged_over(backend, call)) for backend in self.paged]

    def _paged_over(self, backend: PagedBackend, call: PagedCall) -> str | None:
        if (refusal := backend.refuses(call)) is not None:
            return refusal
        query, pages, sight = call.query, call.keys.data.shape, call.sight
        sizes = query.shape[1:], pages[0], pages[2], sight.window is None, call.sinks is None
        key = (backend, query.device.type, query.dtype, *sizes)

        def test() -> str | None:
            return self_test_pages(call, lambda own: backend.run(own, own.step.segments))

        return self._once(key, backend.name, query, test)

    def _passed_over(self, backend: Backend, call: Call) -> str | None:
        refusal = backend.refuses(call)
        return refusal if refusal is not None else self._verdict(backend, call.q)

    def _verdict(self, backend: Backend, tensor: Tensor) -> str | None:
        key = (backend, tensor.device.type, tensor.dtype)
        test = partial(self_test, backend, tensor.device, tensor.dtype)
        return self._once(key, backend.name, tensor, test)

    def _once(
        self, key: Hashable, name: str, tensor: Tensor, test: Callable[[], str | None]
    ) -> str | None:
        if key not in self._verdicts:
            with self._lock:
                if key not in self._verdicts:
                    self._verdicts[key] = _tested(name, tensor, test)
        return self._verdicts[key]


def _tested(name: str, tensor: Tensor, test: Callable[[], str | None]) -> str | None:
    wrong = test()
    if wrong is None:
        return None
    where = f"{tensor.dtype} on {tensor.device.type}"
    warnings.warn(
        f"attention backend {name} failed its self-test for {where} ({wrong}); it is passed over",
        RuntimeWarning,
        stacklevel=2,
    )
    return f"failed its self-test for {where} ({wrong})"


@lru_cache(maxsize=1)
def default_registry() -> Registry:
    """The registry that everything shares unless it is given one of its own."""
    return Registry()

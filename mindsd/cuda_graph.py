"""Work of a GPU recorded once and run again as one launch: CUDA graphs.

A language model's step for a few tokens is a thousand small kernels, which Python launches more
slowly than a GPU runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor

_one_at_a_time = Lock()  # torch records one graph of a process at a time, on one stream


class CudaRecorder:
    """Records functions whose tensors lie on one GPU; all recordings share their memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._first: torch.cuda.CUDAGraph | None = None  # torch forgets a pool with its last graph

    def record(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """What runs the same kernels on the same memory again and gives the same tensor.

        Args:
            function: has run before; reads what changes from tensors alone.

        Raises:
            RuntimeError: it asks the GPU something and waits, which cannot be recorded.
        """
        graph = torch.cuda.CUDAGraph()
        # A recording that fails would leave torch on the stream that it is made on.
        with _one_at_a_time, torch.cuda.stream(torch.cuda.current_stream()):
            try:  # other threads may use the GPU meanwhile, as uploads and previews do
                with torch.cuda.graph(graph, self._pool, capture_error_mode="thread_local"):
                    out = function()
            except BaseException:
                self._pool, self._first = torch.cuda.graph_pool_handle(), None
                raise
        self._first = self._first or graph

        def again() -> Tensor:
            graph.replay()
            return out

        return again

"""Runs a group; when it fails, halves it until the culprit is alone.

Calls are pure, so running them again is safe: an error reaches only the request that causes it, and
memory that runs out costs a smaller group, not a result.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from mindsd.batching import stack
from mindsd.batching.call import Call
from mindsd.batching.coroutine import Outcome
from mindsd.errors import OutOfMemory

OnForward = Callable[[list[Call]], None]


def attempt(calls: list[Call], on_forward: OnForward) -> list[Outcome]:
    """The outcome of every call of a group, in order.

    Args:
        calls: calls that fit each other.
        on_forward: told the calls of every forward that succeeded.
    """
    try:
        results = stack.run(calls)
        on_forward(calls)
        return [Outcome(value) for value in results]
    except stack.NotRows:
        calls[0].batchable.alone = True
        size, ran_out = 1, False
    except Exception as error:
        if len(calls) == 1:
            return [Outcome(error=_explain(error, calls[0]))]
        size, ran_out = len(calls) // 2, _ran_out(error)
        if ran_out:
            calls[0].batchable.caps[calls[0].key] = sum(call.rows for call in calls[:size])
    # Outside the handlers: the failed forward's frames, and the memory they hold, are gone here.
    if ran_out and torch.cuda.is_available():
        torch.cuda.empty_cache()
    parts = [calls[i : i + size] for i in range(0, len(calls), size)]
    return [outcome for part in parts for outcome in attempt(part, on_forward)]


def _explain(error: Exception, call: Call) -> Exception:
    """Memory that ran out as our own error, anything else as it is."""
    if not _ran_out(error):
        return error
    return OutOfMemory(
        f"a {call.batchable.kind} forward of {call.rows} rows does not fit in memory even alone; "
        f"ask for a smaller size ({error})"
    )


def _ran_out(error: Exception) -> bool:
    """Whether this error says that memory ran out (a CPU's allocator says it in words only)."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "can't allocate memory" in str(error)

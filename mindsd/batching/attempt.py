"""Runs a group; when it fails, halves it until the culprit is alone.

Calls are pure, so running them again is safe: an error reaches only the request that causes it, and
memory that runs out costs a smaller group, not a result. A group that fails though each of its
calls succeeds is not tried again at that size.
"""

from __future__ import annotations

import warnings
from contextlib import suppress

from mindsd.batching import proof, stack
from mindsd.batching.call import Batchable, Call
from mindsd.batching.coroutine import Outcome
from mindsd.batching.counts import Counts
from mindsd.device import free_cached, is_out_of_memory
from mindsd.errors import OutOfMemory


def attempt(calls: list[Call], counts: Counts) -> list[Outcome]:
    """The outcome of every call of a group, in order.

    Args:
        calls: calls that fit each other.
        counts: of what was done.
    """
    batchable, key = calls[0].batchable, calls[0].key
    try:
        results, forward = stack.run(calls)
        if len(calls) > 1 and not proof.holds(calls, results):
            raise stack.NotRows("its rows depend on each other")
        forward.commit()
        counts.add(calls)
        batchable.caps.went_well(key, sum(call.rows for call in calls))
        return [Outcome(value) for value in results]
    except stack.NotRows as reason:
        _never_stack(batchable, str(reason))
        size, ran_out = 1, False
    except Exception as error:
        if len(calls) == 1:
            return [Outcome(error=_explain(error, calls[0]))]
        size, ran_out = len(calls) // 2, is_out_of_memory(error)
    # Outside the handlers: the failed forward's frames, and the memory they hold, are gone here.
    if ran_out:
        free_cached()
    capped = sum(call.rows for call in calls[:size])
    if ran_out:
        counts.splits += 1
        batchable.caps.failed(key, capped)
    parts = [calls[i : i + size] for i in range(0, len(calls), size)]
    outcomes = [outcome for part in parts for outcome in attempt(part, counts)]
    if not batchable.alone and not any(outcome.error for outcome in outcomes):
        # Each went well without the others: it was the group. A part may have learned less already.
        batchable.caps.failed(key, batchable.caps.rows(key, capped))
    return outcomes


def _never_stack(batchable: Batchable, reason: str) -> None:
    batchable.alone = True
    with suppress(RuntimeWarning):  # where warnings are errors it is still no request's error
        warnings.warn(
            f"{batchable.name} cannot serve several requests in one forward ({reason}); "
            "its requests run one after the other",
            RuntimeWarning,
            stacklevel=2,
        )


def _explain(error: Exception, call: Call) -> Exception:
    """Memory that ran out as our own error, anything else as it is."""
    if not is_out_of_memory(error):
        return error
    return OutOfMemory(
        f"a {call.batchable.kind} forward of {call.rows} rows does not fit in memory even alone; "
        f"ask for a smaller size ({error})"
    )

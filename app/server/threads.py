"""Threads beside the event loop: loading has one of its own, so that nothing else waits for it.

asyncio's own pool has few threads on a small machine. A model that takes a minute to load would
hold one of them for every request that waits for it, and with that all other requests.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

LOADERS = ThreadPoolExecutor(1, "load")  # models load one at a time in any case
FETCHERS = ThreadPoolExecutor(4, "fetch")  # calls whose pictures come from elsewhere

P = ParamSpec("P")
T = TypeVar("T")


async def on_thread(
    pool: Executor | None, function: Callable[P, T], *args: P.args, **named: P.kwargs
) -> T:
    """What a function gives on a thread of this pool, of asyncio's own for None.

    Raises:
        RuntimeError: it raised what no future takes, or no `except Exception`: a tokenizer's panic.
        Exception: whatever else it raised.
    """
    own = partial(contextvars.copy_context().run, _named, function, *args, **named)
    return await asyncio.get_running_loop().run_in_executor(pool, own)


def _named(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    try:
        return function(*args, **named)
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            raise
        raise RuntimeError(f"{type(error).__name__}: {error}") from error

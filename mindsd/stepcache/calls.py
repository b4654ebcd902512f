"""A denoiser's calls on their way to the engine: each is told where it stands.

Lies on top of the engine's wrap, so it runs in the request's own code; the cache lies below it and
reads what the calls carry.

    pipeline -> calls -> engine's wrap ... engine -> cache -> denoiser
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mindsd.batching.call import TIMES, Batchable, read
from mindsd.batching.rows import tagged
from mindsd.stepcache.guidance import Guidance, conditional_rows, run_conditional
from mindsd.stepcache.trajectory import Position, Trajectory
from mindsd.wrap import Wrap, wrap

FindTrajectory = Callable[[], Trajectory | None]


def follow_calls(module: Any, find: FindTrajectory) -> Wrap:
    """Make every call of `module` carry its position in the trajectory that it belongs to."""
    batchable = Batchable(module.forward, "denoise")

    def forward(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        trajectory = find()
        if trajectory is None:
            return original(*args, **kwargs)
        bound = batchable.signature.bind(*args, **kwargs).arguments
        time = next((value for name, value in bound.items() if name in TIMES), None)
        if time is None:
            return original(*args, **kwargs)
        position = trajectory.position(id(module), time)
        if position is None:
            return original(*args, **kwargs)
        result = _run(batchable, position, original, args, kwargs)
        trajectory.branches[id(module)].append(
            result if trajectory.guidance is Guidance.SEPARATE else None
        )
        return result

    return wrap(module, "forward", forward)


def _run(
    batchable: Batchable,
    position: Position,
    original: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    trajectory = position.trajectory
    if not trajectory.guided:
        if trajectory.guidance is Guidance.SEPARATE and position.branch:
            return trajectory.branches[position.module][0]
        call = read(batchable, args, kwargs)
        count = 0 if call is None else call.rows
        rows = conditional_rows(trajectory.guidance, count, trajectory.images)
        if call is not None and rows is not None:
            with tagged(replace(position, first_row=rows.start)):
                return run_conditional(original, call, rows)
    with tagged(position):
        return original(*args, **kwargs)

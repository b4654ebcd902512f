"""When what advises a denoiser falls silent or speaks again, what was kept is dropped.

diffusers silences a ControlNet, before and after its share of the steps, by the factor 0: it still
runs, its residuals still come, all of them zeros, and the denoiser's call looks as always. Only the
factor says it, a plain number: nothing waits for the device.

    step            4         5         6
    factor          0.8       0         0
    kept            as ever   dropped   as ever: step 5 runs whole
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from mindsd.stepcache.trajectory import Trajectory
from mindsd.wrap import Wrap, wrap

FACTOR = "conditioning_scale"  # a number, or one for each of several ControlNets


def follow_advice(module: Any, find: Callable[[], Trajectory | None]) -> Wrap:
    """Watch an adviser's calls, on top of the engine's wrap as `follow_calls` lies."""
    signature = inspect.signature(module.forward)
    silent: WeakKeyDictionary[Trajectory, tuple[bool, ...]] = WeakKeyDictionary()

    def forward(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        trajectory = find()
        if trajectory is not None:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            now = _silent(bound.arguments[FACTOR])
            if silent.get(trajectory, now) != now:
                trajectory.drop()
            silent[trajectory] = now
        return original(*args, **kwargs)

    return wrap(module, "forward", forward)


def _silent(factor: Any) -> tuple[bool, ...]:
    """Which of the factors are 0."""
    factors = factor if isinstance(factor, list | tuple) else [factor]
    return tuple(one == 0 for one in factors)

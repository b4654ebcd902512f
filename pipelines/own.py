"""A request's own pipeline: weights shared, everything that changes during a run its own.

A diffusers pipeline object keeps the state of the running call (scheduler, guidance scale, number
of steps) on itself, so two calls at once would mix. A shallow copy with its own scheduler does not.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin

from mindsd.errors import BrokenImage
from mindsd.wrap import wrap

OnStep = Callable[[int, int], None]  # steps done, steps in all
OnLatents = Callable[[torch.Tensor], None]


class ProgressBar:
    """Stands where diffusers puts tqdm: a context manager with `update`, or round an iterable."""

    def __init__(self, on_step: OnStep, iterable: Iterable[Any] | None, total: int | None):
        self._on_step = on_step
        self._items = [] if iterable is None else list(iterable)
        self._total = len(self._items) if total is None else total
        self._done = 0

    def update(self, steps: int = 1) -> None:
        self._done += steps
        self._on_step(self._done, self._total)

    def set_description(self, *args: Any, **kwargs: Any) -> None:
        """Some pipelines name the stage; events carry numbers only."""

    set_postfix = set_description

    def close(self) -> None:
        """Nothing to close; pipelines that do not use `with` call it."""

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            yield item
            self.update()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def own_copy(
    pipe: DiffusionPipeline,
    on_step: OnStep,
    *,
    on_latents: OnLatents | None = None,
    generator: torch.Generator | None = None,
    parts: Mapping[str, Any] | None = None,
) -> DiffusionPipeline:
    """A copy of `pipe` for one request.

    Args:
        on_step: told after every denoising step.
        on_latents: told the latents after every scheduler step, in the pipeline's own layout: the
            estimate of the clean latents where the scheduler gives one, else the noisy ones.
        generator: the request's random numbers, for schedulers that draw some though their pipeline
            passes them none; they would take the process's, which every request changes.
        parts: components that take the place of the pipeline's own.
    """
    mine, parts = copy.copy(pipe), parts or {}
    for name, part in vars(pipe).items():
        if isinstance(part, SchedulerMixin):
            own: Any = parts.get(name) or copy.deepcopy(part)
            signature = inspect.signature(own.step)
            if generator is not None and "generator" in signature.parameters:
                wrap(own, "step", partial(_draw_from, generator, signature))
            if on_latents is not None:
                wrap(own, "step", partial(_listen, on_latents))
            _set(mine, name, own)
        elif isinstance(part, DiffusionPipeline):  # pipelines of several stages hold one for each
            inner = {n: p for n, p in parts.items() if getattr(part, n, None) is vars(pipe).get(n)}
            own = own_copy(part, on_step, on_latents=on_latents, generator=generator, parts=inner)
            _set(mine, name, own)
        elif name in parts:
            _set(mine, name, parts[name])
        elif callable(getattr(part, "postprocess", None)):
            checked = copy.copy(part)
            wrap(checked, "postprocess", _refuse_nan)
            _set(mine, name, checked)

    _set(mine, "numpy_to_pil", partial(_refuse_nan, mine.numpy_to_pil))

    def progress_bar(iterable: Any = None, total: int | None = None) -> ProgressBar:
        return ProgressBar(on_step, iterable, total)

    _set(mine, "progress_bar", progress_bar)
    return mine


def _set(pipe: DiffusionPipeline, name: str, value: Any) -> None:
    """Set past the pipeline's own __setattr__, which would write into the shared config."""
    object.__setattr__(pipe, name, value)


def _listen(on_latents: OnLatents, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    result = original(*args, **kwargs)
    told = result.values() if isinstance(result, dict) else result
    values = [value for value in told if isinstance(value, torch.Tensor)]
    clean = values[1] if len(values) > 1 and values[1].shape == values[0].shape else values[0]
    on_latents(clean)
    return result


def _draw_from(
    own: torch.Generator,
    signature: inspect.Signature,
    original: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    given = signature.bind_partial(*args, **kwargs).arguments
    if given.get("generator") is None:
        kwargs["generator"] = own
    return original(*args, **kwargs)


def _refuse_nan(original: Callable[..., Any], image: Any, *args: Any, **kwargs: Any) -> Any:
    """Values that are not numbers would be written as black."""
    values = torch.from_numpy(image) if isinstance(image, np.ndarray) else image
    if isinstance(values, torch.Tensor) and not (finite := values.isfinite()).all():
        wrong = int((~finite).sum())
        raise BrokenImage(
            f"{wrong} of {values.numel()} values of the decoded image are not numbers: "
            f"{str(values.dtype).removeprefix('torch.')} overflowed or the weights are broken; "
            "try dtype float32"
        )
    return original(image, *args, **kwargs)

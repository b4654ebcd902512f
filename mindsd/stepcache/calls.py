"""A denoiser's calls on their way to the engine: which rows run at all, and where they stand.

Lies on top of the engine's wrap, so it runs in the request's own code; the cache lies below it and
reads what the calls carry. Rows whose output can be forecast never reach the engine, so those that
do fill its forwards with work that must be done:

    pipeline -> calls -> engine's wrap ... engine -> cache -> denoiser
                  |
                  +-> forecast (steps that are skipped), last difference (guidance cut off)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from mindsd.batching.call import TIMES, Batchable, Call, Role, read
from mindsd.batching.rows import tagged
from mindsd.batching.stack import take
from mindsd.errors import RequestError
from mindsd.stepcache.cell import Form
from mindsd.stepcache.guidance import Guidance, conditional_rows
from mindsd.stepcache.output import Outputs
from mindsd.stepcache.trajectory import Position, Trajectory
from mindsd.wrap import Wrap, wrap

FindTrajectory = Callable[[], Trajectory | None]


def follow_calls(module: Any, find: FindTrajectory) -> Wrap:
    """Make every call of `module` carry its position in the trajectory that it belongs to."""
    batchable = Batchable(module.forward, "denoise", type(module).__name__)

    def forward(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        trajectory = find()
        if trajectory is None:
            return original(*args, **kwargs)
        bound = batchable.signature.bind(*args, **kwargs).arguments
        time = next((value for name, value in bound.items() if name in TIMES), None)
        position = None if time is None else trajectory.position(id(module), time)
        if position is None:
            return original(*args, **kwargs)
        with tagged(position):
            call = read(batchable, args, kwargs) if _keeps(trajectory) else None
            if call is None:
                result = original(*args, **kwargs)
            else:
                result = _Rows(position, call, original).run()
        trajectory.branches[id(module)].append(result)
        return result

    return wrap(module, "forward", forward)


def _keeps(trajectory: Trajectory) -> bool:
    """Whether something may be kept of its rows, which must then be known by their numbers."""
    return trajectory.step_cache is not None or trajectory.acceleration.guidance_until < 1


class _Rows:
    """The rows of one call, each run, forecast, or made of its conditional twin."""

    def __init__(self, position: Position, call: Call, original: Callable[..., Any]):
        self.position, self.trajectory = position, position.trajectory
        self.call, self.original = call, original
        latents = next(
            leaf
            for leaf, role in zip(call.leaves, call.roles, strict=True)
            if role in (Role.ROWS, Role.ITEMS)
        )
        self.trajectory.has_rows(position.module, position.branch, call.rows)
        self.twins = self._twins()
        self.outputs = Outputs(position, call.key, list(latents), self._images())

    def run(self) -> Any:
        left_out = {} if self.trajectory.guided else self._known_twins()
        own = [place for place in range(self.call.rows) if place not in left_out]
        skipped = self._skipped(own)
        ran = [place for place in own if place not in skipped]
        self.trajectory.spared += self.call.rows - len(ran)
        result, form, values = self._run(ran)
        if form is None and len(ran) == self.call.rows:
            return result  # not rows: nothing can ever stand for it
        values |= {place: self.outputs.forecast(place) for place in skipped}
        self._settle_guidance(values, left_out, skipped)
        if len(ran) == self.call.rows:
            return result
        form = form or self._known_form(skipped)
        return form.build([values[place] for place in range(self.call.rows)])

    def _run(self, ran: list[int]) -> tuple[Any, Form | None, dict[int, Tensor]]:
        """The result for some rows, how it is built of rows, and the rows by their places."""
        if not ran:
            return None, None, {}
        args, kwargs = take(self.call, ran).arguments()
        every = len(ran) == self.call.rows
        position = self.position if every else replace(self.position, rows=tuple(ran))
        with tagged(position):
            result = self.original(*args, **kwargs)
        form, rows = Form.of(result, len(ran))
        if form is None:
            if not every:
                raise RequestError(
                    f"{self.call.batchable.name} does not give one result for each of its "
                    f"{len(ran)} rows, so none can be left out; leave out skip and guidance_until"
                )
            return result, None, {}
        values = dict(zip(ran, rows, strict=True))
        self.outputs.learn(values, form)
        return result, form, values

    def _skipped(self, own: list[int]) -> list[int]:
        """Those to forecast. Branches are weighed against each other, so all do as the first."""
        module, first = self.position.module, self.position.branch == 0
        decided = None if first else self.trajectory.skipped.get(module)
        if decided is None:
            skipped = [place for place in own if self.outputs.is_skipped(place)]
        else:
            skipped = [place for place in own if place in decided and self.outputs.is_known(place)]
        if first:
            self.trajectory.skipped[module] = frozenset(skipped)
        return skipped

    def _images(self) -> list[int]:
        """The image of each row; where it cannot be told all rows go together."""
        images = self.trajectory.images
        together = not images or self.call.rows % images
        return [0 if together else place % images for place in range(self.call.rows)]

    def _known_twins(self) -> dict[int, int]:
        """Those whose difference is known; a second denoiser has first to learn its own."""
        known = self.trajectory.differences
        return {place: twin for place, twin in self.twins.items() if self._key(place) in known}

    def _key(self, place: int) -> tuple[int, ...]:
        return (self.position.module, self.position.stage, place)

    def _twins(self) -> dict[int, int]:
        """The conditional row of each unconditional one."""
        guidance, rows = self.trajectory.guidance, self.call.rows
        if guidance is Guidance.SEPARATE:
            return {place: place for place in range(rows)} if self.position.branch == 1 else {}
        conditional = conditional_rows(guidance, rows, self.trajectory.images)
        if conditional is None:
            return {}
        others = (place for place in range(rows) if place not in conditional)
        return dict(zip(others, conditional, strict=True))

    def _settle_guidance(
        self, values: dict[int, Tensor], left_out: dict[int, int], skipped: list[int]
    ) -> None:
        """Fill in the unconditional rows that are left out; remember the difference of others."""
        if self.trajectory.acceleration.guidance_until == 1:
            return
        differences, before = self.trajectory.differences, self._before()
        noise_change = self.position.noise.noise_change(self.trajectory.course.prediction)
        conditional = Form.of(before, self.call.rows)[1] if before is not None else values
        for place, twin in self.twins.items():
            key = self._key(place)
            if place in left_out:
                values[place] = conditional[twin] - differences[key] / noise_change
            elif not {place, twin} & set(skipped):  # two forecasts may differ wildly
                differences[key] = (conditional[twin] - values[place]) * noise_change

    def _before(self) -> Any:
        """The conditional branch's result where it was a call of its own; None elsewhere."""
        if self.trajectory.guidance is not Guidance.SEPARATE:
            return None
        return next(iter(self.trajectory.branches[self.position.module]), None)

    def _known_form(self, skipped: list[int]) -> Form:
        """Where no row ran: as the row's last output was, or as the other branch's is."""
        form = self.outputs.form(skipped[0]) if skipped else None
        if form is None:
            form, _ = Form.of(self._before(), self.call.rows)
        assert form is not None
        return form

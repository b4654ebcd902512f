"""A denoiser's output without running it: forecast from the steps before, row by row.

What is forecast are the clean latents that the outputs stand for, or a flow's velocity (course.py).
From clean latents the output follows with the latents that the pipeline passes in, so noise that a
sampler adds between the steps is told from the picture.

With a tolerance every computed output is held against its own forecast. That error, divided by what
the distances contribute to it, says how far the next forecasts may reach: one number a row, asked
for at computed steps only, as solvers of differential equations choose their steps.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mindsd.stepcache.cell import Form, OutputCell
from mindsd.stepcache.forecast import Anchor
from mindsd.stepcache.plan import Kind
from mindsd.stepcache.trajectory import Position


@dataclass
class Outputs:
    """The outputs of one call's rows.

    Attributes:
        position: of the call.
        key: what must be as it was for a forecast to stand for an output.
        latents: of each row, as the denoiser is given them.
        images: which image each row is of; the rows of one are skipped or computed together.
    """

    position: Position
    key: object
    latents: list[Tensor]
    images: Sequence[int]

    def is_known(self, place: int) -> bool:
        """Whether the row's output can be forecast."""
        return self._cell(place).value is not None

    def is_skipped(self, place: int) -> bool:
        """Whether the row's output is to be forecast, and can be."""
        position, cell = self.position, self._cell(place)
        cache = position.trajectory.step_cache
        if cache is None or cell.value is None:
            return False
        if cache.tolerance is None or position.planned is not None:
            return position.planned is Kind.SKIPPED
        return not position.at_an_end and position.step < cell.due

    def forecast(self, place: int) -> Tensor:
        """The output expected for the row, in the latents' dtype."""
        anchor = self._cell(place).value
        assert anchor is not None
        noise, course = self.position.noise, self.position.trajectory.course
        return _converted(
            self.latents[place],
            anchor.forecast(course.at(noise)),
            lambda latents, value: course.output(noise, latents, value),
        ).to(self.latents[place].dtype)

    def form(self, place: int) -> Form | None:
        """How the row's outputs are given."""
        return self._cell(place).form

    def learn(self, outputs: Mapping[int, Tensor], form: Form) -> None:
        """Keep what the rows that ran gave, by their places."""
        trajectory, at = self.position.trajectory, self._at
        cache = trajectory.step_cache
        if cache is None or Kind.SKIPPED not in cache.uses:
            return
        cells = {place: self._cell(place) for place in outputs}
        values = {place: self._value(place, output) for place, output in outputs.items()}
        if cache.tolerance:
            self._choose_next(cells, values)
        for place, cell in cells.items():
            if cell.value is None or cache.order == 0:
                cell.value = Anchor(values[place], at)
            else:
                cell.value = cell.value.next(values[place], at)
            cell.form = form
            trajectory.outputs[self.position.cell(place)] = cell

    def _cell(self, place: int) -> OutputCell:
        found = self.position.trajectory.outputs.get(self.position.cell(place))
        return found if found is not None and found.key == self.key else OutputCell(self.key)

    @property
    def _at(self) -> float:
        return self.position.trajectory.course.at(self.position.noise)

    def _value(self, place: int, output: Tensor) -> Tensor:
        noise, course = self.position.noise, self.position.trajectory.course
        return _converted(
            self.latents[place],
            output.to(torch.float32, copy=True),  # a view would keep the whole group alive
            lambda latents, own: course.value(noise, latents, own),
        )

    def _choose_next(self, cells: Mapping[int, OutputCell], values: Mapping[int, Tensor]) -> None:
        """Which step each image computes next; one wait for them all."""
        at = self._at
        anchors = {p: c.value for p, c in cells.items() if c.value is not None and c.value.gap}
        known = {place: anchor for place, anchor in anchors.items() if anchor.spread(at) > 0}
        if not known:
            return
        errors = [
            (values[place] - anchor.forecast(at)).abs().mean() / values[place].abs().mean()
            for place, anchor in known.items()
        ]
        curvatures: dict[int, list[float]] = {}
        for (place, anchor), error in zip(known.items(), torch.stack(errors).tolist(), strict=True):
            curvatures.setdefault(self.images[place], []).append(error / anchor.spread(at))
        for place, anchor in known.items():
            cell, curvature = cells[place], statistics.mean(curvatures[self.images[place]])
            if cell.curvature is not None:  # it may grow: one error alone tells too little
                cell.due = self._due(abs(at - anchor.at), max(curvature, cell.curvature))
            cell.curvature = curvature

    def _due(self, gap: float, curvature: float) -> int:
        """The first step before which forecasts are expected to add up to the tolerance.

        What a wrong forecast does to the picture grows with its step: with the share of the value
        that a solver takes on it.
        """
        trajectory, at = self.position.trajectory, self._at
        cache, course, total = trajectory.step_cache, trajectory.course, 0.0
        assert cache is not None and cache.tolerance is not None
        for later in range(1, cache.most + 1):
            index = self.position.index + later * trajectory.order
            if index >= trajectory.calls:
                break
            here, following = trajectory.noises[index], index + trajectory.order
            there = trajectory.noises[following] if following < trajectory.calls else None
            distance = abs(course.at(here) - at)
            total += curvature * distance * (distance + gap) * course.share(here, there)
            if total > cache.tolerance:
                return self.position.step + later
        return self.position.step + cache.most + 1


def _converted(
    latents: Tensor, value: Tensor, convert: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """`value` of one row with what it shares with the latents converted, in float32.

    Denoisers may take more channels than they give (masks, pictures to edit) or give more than they
    take (a variance); those lie behind. Where the shapes do not tell, the value stays as it is.
    """
    pairs = list(zip(latents.shape, value.shape, strict=False))
    others = [dim for dim, (a, b) in enumerate(pairs) if a != b]
    if latents.ndim != value.ndim or len(others) > 1:
        return value
    dim = others[0] if others else 0
    shared, own = min(pairs[dim]), value.shape[dim]
    part = convert(latents.narrow(dim, 0, shared).float(), value.narrow(dim, 0, shared))
    return (
        part if shared == own else torch.cat([part, value.narrow(dim, shared, own - shared)], dim)
    )

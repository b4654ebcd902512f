"""The step cache of one denoiser: decides for every row of a forward, runs what must run, merges.

    rows of the forward      A      B      C      D
    their own plans          whole  shallow whole  shallow
    run                      [A C] whole          [B D] shallow, with their forecasts
    result                   A      B      C      D

Rows that are skipped altogether never come here (calls.py). All state is in the trajectories, which
belong to the requests; nothing is kept here. What a forward learns is kept once it succeeded
(batching/rows.py), so a forward may fail and be run again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mindsd.batching.call import Batchable, Call, read
from mindsd.batching.rows import Forward, Row, part_of, present_forward, present_tags
from mindsd.batching.stack import merge, take
from mindsd.stepcache.cell import DeepCell
from mindsd.stepcache.forecast import Anchor
from mindsd.stepcache.plan import Kind
from mindsd.stepcache.split import Split
from mindsd.stepcache.trajectory import Position
from mindsd.wrap import wrap


class CachedDenoiser:
    """Wraps a denoiser's forward below the engine's wrap; rows without a trajectory run plainly."""

    def __init__(self, module: Any, split: Split):
        self.split = split
        self._batchable = Batchable(module.forward, "denoise")
        self._wrap = wrap(module, "forward", self._forward)

    def remove(self) -> None:
        """Take everything off the denoiser."""
        self._wrap.remove()
        self.split.remove()

    def _forward(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not any(_caches(tag) for tag in present_tags()):
            return original(*args, **kwargs)
        call = read(self._batchable, args, kwargs)
        if call is None:
            return original(*args, **kwargs)
        with present_forward(call.rows) as forward:
            return _Cached(self.split, call, forward).run()


def _caches(tag: Any) -> bool:
    cache = tag.trajectory.step_cache if isinstance(tag, Position) else None
    return cache is not None and Kind.SHALLOW in cache.uses


class _Cached:
    """One forward: its rows, their cells, and what becomes of each."""

    def __init__(self, split: Split, call: Call, forward: Forward):
        self.split = split
        self.call = call
        self.forward, self.learned = forward, forward.learned
        self.positions = [row.tag if _caches(row.tag) else None for row in forward.rows]
        self.cells = [self._cell(row) for row in forward.rows]

    def run(self) -> Any:
        kinds = self._decide()
        shallow = [place for place, kind in enumerate(kinds) if kind is Kind.SHALLOW]
        whole = [place for place, kind in enumerate(kinds) if kind is not Kind.SHALLOW]
        results = [
            self._whole(whole) if whole else None,
            self._shallow(shallow) if shallow else None,
        ]
        return merge(results, [whole, shallow])

    def _cell(self, row: Row) -> DeepCell:
        """The row's cell; a fresh one where the call's form has changed or nothing is cached."""
        if not _caches(row.tag):
            return DeepCell(None)
        cell = row.tag.trajectory.cells.get(row.tag.cell(row.number))
        if cell is None or cell.key != self.call.key:
            cell = DeepCell(self.call.key)
            self.learned.append(partial(row.tag.keep, row.number, cell))
        return cell

    def _decide(self) -> list[Kind]:
        kinds = [self._planned(place) for place in range(self.call.rows)]
        places = [place for place, kind in enumerate(kinds) if kind is None]
        if places:
            for place, moved in zip(places, self._moved(places), strict=True):
                kinds[place] = self._adaptive(place, moved)
        return [kind or Kind.WHOLE for kind in kinds]

    def _planned(self, place: int) -> Kind | None:
        """The row's kind where it is known without looking; None where it must be looked at."""
        position, cell = self.positions[place], self.cells[place]
        if position is None:
            return Kind.WHOLE
        kind = position.planned
        return Kind.WHOLE if cell.deep is None and kind is not None else kind

    def _adaptive(self, place: int, moved: float) -> Kind:
        position, cell = self.positions[place], self.cells[place]
        assert position is not None
        options = position.trajectory.step_cache
        far = cell.moved + moved
        forced = position.at_an_end or cell.deep is None
        whole = forced or far >= options.threshold or cell.reused >= options.most
        kind = Kind.WHOLE if whole else Kind.SHALLOW
        self.learned.append(partial(cell.went, kind, far))
        return kind

    def _moved(self, places: list[int]) -> list[float]:
        """Relative L1 change of each row's feature since the step before; one wait for them all."""
        with part_of(self.forward, places):
            features = self.split.probe(take(self.call, places).run)
        changes = []
        for place, feature in zip(places, features, strict=True):
            cell = self.cells[place]
            before, own = cell.feature, feature.clone()
            self.learned.append(partial(setattr, cell, "feature", own))
            if before is None:
                changes.append(feature.new_zeros(()))
            else:
                changes.append((feature - before).abs().mean() / before.abs().mean())
        return torch.stack([change.float() for change in changes]).tolist()

    def _whole(self, places: list[int]) -> Any:
        with part_of(self.forward, places):
            result, deep = self.split.whole(take(self.call, places).run)
        for i, place in enumerate(places):
            position, cell = self.positions[place], self.cells[place]
            if position is None:
                continue
            order = position.trajectory.step_cache.order
            after = _after(cell.deep, deep[i], position.noise.log_snr, order)
            self.learned.append(partial(setattr, cell, "deep", after))
        return result

    def _shallow(self, places: list[int]) -> Any:
        deep = torch.stack([self._forecast(place) for place in places])
        with part_of(self.forward, places):
            return self.split.shallow(take(self.call, places).run, deep)

    def _forecast(self, place: int) -> Tensor:
        position, anchor = self.positions[place], self.cells[place].deep
        assert anchor is not None and position is not None
        return anchor.forecast(position.noise.log_snr)


def _after(anchor: Anchor | None, value: Tensor, at: float, order: int) -> Anchor:
    """The anchor after a computed value; a copy, since a view would keep the whole batch alive."""
    own = value.clone()
    return Anchor(own, at) if anchor is None or order == 0 else anchor.next(own, at)

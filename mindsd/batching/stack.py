"""Rows in, rows out: several calls as one forward, and its result taken apart again.

    call A  latents [2, 4, 32, 32]  t = 981  --+                                      --> rows 0:2
    call B  latents [2, 4, 32, 32]  t = 61   --+--> forward([5, 4, 32, 32], t [5])    --> rows 2:4
    call C  latents [1, 4, 32, 32]  t = 441  --+                                      --> rows 4:5

A group of one runs exactly the call that was made: alone, nothing differs from plain diffusers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from mindsd.batching.call import Call, Role, spread
from mindsd.batching.rows import Forward, running


class NotRows(Exception):
    """A result cannot be divided among the calls; each must run alone."""


class Listed(list[torch.Tensor]):
    """One tensor for each row, where a plain list might be anything."""


def run(calls: list[Call]) -> tuple[list[Any], Forward]:
    """Run calls that fit each other: one result for each, in order, and what is to be committed.

    Raises:
        NotRows: several calls ran as one but the result is not one row for each row that went in.
        Exception: whatever the module raised.
    """
    with running([(call.tag, call.rows, call.adapters) for call in calls]) as forward:
        return _run(calls), forward


def take(call: Call, rows: list[int]) -> Call:
    """The same call for some of its rows only; exactly the call itself when it is all of them."""
    if rows == list(range(call.rows)):
        return call
    leaves = [_pick(leaf, role, rows) for leaf, role in zip(call.leaves, call.roles, strict=True)]
    return replace(call, leaves=leaves, rows=len(rows))


def merge(results: list[Any], parts: list[list[int]]) -> Any:
    """One result again from the results of parts: part i computed the rows `parts[i]`.

    Raises:
        NotRows: a result is not one row for each row that went in.
    """
    kept = [(result, part) for result, part in zip(results, parts, strict=True) if part]
    if len(kept) == 1:
        return kept[0][0]
    flat = [pytree.tree_flatten(result) for result, _ in kept]
    order = [row for _, part in kept for row in part]
    places = sorted(range(len(order)), key=order.__getitem__)
    columns = zip(*(leaves for leaves, _ in flat), strict=True)
    counts = [len(part) for _, part in kept]
    return pytree.tree_unflatten([_gather(c, counts, places) for c in columns], flat[0][1])


def _pick(leaf: Any, role: Role, rows: list[int]) -> Any:
    if role is Role.ITEMS:
        return [leaf[row] for row in rows]
    return leaf[rows] if role is Role.ROWS else leaf


def _gather(column: tuple[Any, ...], counts: list[int], places: list[int]) -> Any:
    if all(leaf is None for leaf in column):
        return None
    if all(
        isinstance(leaf, Listed) and len(leaf) == n for leaf, n in zip(column, counts, strict=True)
    ):
        items = [item for leaf in column for item in leaf]
        return Listed(items[place] for place in places)
    sizes = [leaf.shape[0] if isinstance(leaf, torch.Tensor) else -1 for leaf in column]
    if sizes != counts:
        raise NotRows(f"results of {sizes} rows cannot be merged for {counts}")
    return torch.cat(column)[places]


def _run(calls: list[Call]) -> list[Any]:
    if len(calls) == 1:
        return [calls[0].run()]
    counts = [call.rows for call in calls]
    first = calls[0]
    columns = zip(*(call.leaves for call in calls), strict=True)
    roles = zip(*(call.roles for call in calls), strict=True)
    leaves = [
        _join(column, role, counts, first.device)
        for column, role in zip(columns, roles, strict=True)
    ]
    return _divide(replace(first, leaves=leaves).run(), counts, lists=Role.ITEMS in first.roles)


def _join(
    column: tuple[Any, ...], roles: tuple[Role, ...], counts: list[int], device: torch.device
) -> Any:
    if roles[0] is Role.EQUAL:
        return column[0]
    if roles[0] is Role.ITEMS:
        return [item for items in column for item in items]
    tensors = [
        spread(leaf, rows, device) if role is Role.SPREAD else leaf
        for leaf, role, rows in zip(column, roles, counts, strict=True)
    ]
    return torch.cat(tensors)


def _divide(result: Any, counts: list[int], *, lists: bool) -> list[Any]:
    """One result for each call; `lists` says that rows came as a list, and may go as one."""
    total = sum(counts)

    def items(node: Any) -> bool:
        return lists and isinstance(node, list) and len(node) == total

    leaves, spec = pytree.tree_flatten(result, is_leaf=items)
    columns = [_split(leaf, counts, total) for leaf in leaves]
    return [pytree.tree_unflatten(list(own), spec) for own in zip(*columns, strict=True)]


def _split(leaf: Any, counts: list[int], total: int) -> list[Any]:
    if leaf is None:
        return [None] * len(counts)
    if isinstance(leaf, torch.Tensor) and leaf.ndim and leaf.shape[0] == total:
        # Copies: a view would keep the whole group's memory as long as one request keeps its rows.
        return [rows.clone() for rows in leaf.split(counts)]
    if isinstance(leaf, list) and len(leaf) == total:
        ends = [sum(counts[: i + 1]) for i in range(len(counts))]
        return [leaf[end - count : end] for end, count in zip(ends, counts, strict=True)]
    what = tuple(leaf.shape) if isinstance(leaf, torch.Tensor) else type(leaf).__name__
    raise NotRows(f"a result of {what} cannot be divided into {total} rows")

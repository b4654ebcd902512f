"""What a suspended request asks: a call of a heavy module, read as rows, with its group's key.

A call's arguments are flattened to leaves. Each leaf is one of

    ROWS    a tensor whose first dimension is the row count         stacked
    SPREAD  a time step without rows (0-d, [1], or a plain number)  one for each row, then stacked
    ITEMS   a list with one item per row (models that take lists)   joined
    EQUAL   anything else                                           the same in the whole group

The first argument says how rows are carried: a tensor by its first dimension, a list of tensors by
its items. Calls with equal keys whose EQUAL tensors are equal too can run as one forward.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch.utils import _pytree as pytree  # diffusers and transformers register their outputs here

from mindsd.batching.caps import Caps
from mindsd.batching.rows import Weighted, present_adapters, present_tag

# Position tables: their first dimension counts tokens, and may equal the row count by accident.
TABLES = frozenset({"img_ids", "txt_ids", "image_rotary_emb", "rotary_emb", "freqs_cis"})
# Time steps: pipelines pass one for all rows, in whatever form their scheduler has.
TIMES = frozenset({"timestep", "timesteps", "t"})
CONTAINERS = (dict, list, tuple)


class Role(Enum):
    ROWS = "rows"
    SPREAD = "spread"
    ITEMS = "items"
    EQUAL = "equal"


@dataclass(eq=False)
class Batchable:
    """A method of a module that may be run for many requests at once.

    Attributes:
        function: the method itself, without any wrap. It must be pure: same rows in, same rows out.
        kind: what it is for ("text", "denoise", "image"); the engine is fair between kinds.
        name: what people call its module, for warnings.
        rounded: it computes in 8 bits, which make the least difference one of half precision's.
        alone: set when its results turned out not to be rows; its calls are never stacked again.
        proven: forms of calls (`Call.form`), with adapters or without, whose stacked results were
            seen to equal those alone.
        caps: rows that a group of one key may have, learned when a larger one failed.
    """

    function: Callable[..., Any]
    kind: str
    name: str = "module"
    rounded: bool = False
    alone: bool = False
    proven: set[Hashable] = field(default_factory=set)
    caps: Caps = field(default_factory=Caps)
    signature: inspect.Signature = field(init=False)

    def __post_init__(self) -> None:
        self.signature = inspect.signature(self.function)


@dataclass(eq=False)
class Call:
    """One suspended call.

    Attributes:
        batchable: whose method was called.
        leaves, spec, roles: the arguments flattened, how to rebuild them, what each leaf is.
        rows: how many rows it brings.
        device: where they are.
        key: equal for calls that may share a forward, as far as shapes and plain values tell.
        tag: what the request made it carry (rows.py); its `group`, if any, is part of the key.
        positional: how many arguments came by position.
        adapters: what its rows are computed with; no part of the key, for each row has its own.
    """

    batchable: Batchable
    leaves: list[Any]
    spec: pytree.TreeSpec
    roles: list[Role]
    rows: int
    device: torch.device
    key: tuple[Any, ...]
    tag: Any = None
    positional: int = 0
    adapters: Weighted = ()

    @property
    def form(self) -> Hashable:
        """What the arguments are, whatever their sizes and values."""
        return str(self.spec), tuple(self.roles)

    @property
    def kind(self) -> str:
        return self.batchable.kind

    def limit(self, rows: int) -> int:
        """Rows that a group of this call may have now, at most `rows`."""
        return self.batchable.caps.rows(self.key, rows)

    def run(self) -> Any:
        """The call that the pipeline made, bit for bit."""
        args, kwargs = self.arguments()
        return self.batchable.function(*args, **kwargs)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arguments, in containers of their own: some modules empty theirs.

        They go by position or by name as they came: diffusers' models take a LoRA's scale out of
        the named ones only.
        """
        named = OrderedDict(pytree.tree_unflatten(self.leaves, self.spec))
        bound = inspect.BoundArguments(self.batchable.signature, named)
        names = list(self.batchable.signature.parameters)[self.positional : len(bound.args)]
        by_name = dict(zip(names, bound.args[self.positional :], strict=True))
        return bound.args[: self.positional], by_name | bound.kwargs

    def fits(self, other: Any) -> bool:
        """Whether two calls may share a forward."""
        if not isinstance(other, Call) or self.key != other.key or self.batchable.alone:
            return False
        return all(
            mine is its or torch.equal(mine, its)
            for mine, its, role in zip(self.leaves, other.leaves, self.roles, strict=True)
            if role is Role.EQUAL and isinstance(mine, torch.Tensor)
        )


def read(batchable: Batchable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """The call as rows, or None when it carries none (it then runs alone, at once)."""
    bound = batchable.signature.bind(*args, **kwargs)
    first = next((value for value in bound.arguments.values() if value is not None), None)
    lists = isinstance(first, list) and all(isinstance(item, torch.Tensor) for item in first)
    if first is None or not (lists or _has_rows(first)) or len(first) == 0:
        return None
    rows = len(first)
    device = first[0].device  # of a tensor's row or a list's first item

    def joined(node: Any) -> bool:
        return lists and isinstance(node, list) and len(node) == rows

    def leaf(node: Any) -> bool:
        return joined(node) or type(node) not in CONTAINERS

    paths, spec = pytree.tree_flatten_with_path(dict(bound.arguments), is_leaf=leaf)
    leaves = [found for _, found in paths]
    roles = [Role.ITEMS if joined(x) else _role(_names(path), x, rows) for path, x in paths]
    facts = (_fact(leaf, role, device) for leaf, role in zip(leaves, roles, strict=True))
    tag = present_tag()
    key = (id(batchable), str(spec), getattr(tag, "group", None), *facts)
    carried = {"tag": tag, "positional": len(args), "adapters": present_adapters()}
    return Call(batchable, leaves, spec, roles, rows, device, key, **carried)


def _names(path: tuple[Any, ...]) -> set[str]:
    """The parameter and dictionary names on the way to a leaf."""
    return {entry.key for entry in path if isinstance(entry, pytree.MappingKey)}


def _role(names: set[str], leaf: Any, rows: int) -> Role:
    if names & TIMES and _is_single(leaf) and not (_has_rows(leaf) and rows == 1):
        return Role.SPREAD
    if _has_rows(leaf) and leaf.shape[0] == rows and not names & TABLES:
        return Role.ROWS
    return Role.EQUAL


def _has_rows(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.ndim > 0


def _is_single(leaf: Any) -> bool:
    if isinstance(leaf, torch.Tensor):
        return leaf.ndim == 0 or tuple(leaf.shape) == (1,)
    return isinstance(leaf, int | float) and not isinstance(leaf, bool)


def spread(leaf: Any, rows: int, device: torch.device) -> torch.Tensor:
    """A time step as a tensor of [rows], where they are, of the dtype diffusers gives a number."""
    if not isinstance(leaf, torch.Tensor):
        leaf = torch.tensor(leaf, dtype=torch.float64 if isinstance(leaf, float) else torch.int64)
    return leaf.reshape(1).to(device).expand(rows)


def _fact(leaf: Any, role: Role, device: torch.device) -> Any:
    """What must agree between two calls about this leaf; `device` is where their rows are."""
    if role is Role.ITEMS:
        return role, frozenset(_fact(item, Role.EQUAL, device) for item in leaf)
    if role is Role.SPREAD:
        leaf = spread(leaf, 1, device)
    if role is not Role.EQUAL:
        return Role.ROWS, leaf.dtype, leaf.device, tuple(leaf.shape[1:])
    if isinstance(leaf, torch.Tensor):
        return role, leaf.dtype, leaf.device, tuple(leaf.shape)
    if leaf is None or isinstance(leaf, bool | int | float | str | torch.dtype | torch.device):
        return role, type(leaf), leaf
    return role, type(leaf), id(leaf)  # opaque: only ever equal to itself

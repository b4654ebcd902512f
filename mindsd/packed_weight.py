"""A weight that is kept only in the order in which oneDNN reads it.

A layer whose weight was laid out anew needs the plain weight no longer, but everybody else does:
whoever saves, copies, compares, adapts or moves a model. So in the layer's place for it stands a
`PackedWeight`: a parameter with the plain one's shape and dtype whose numbers lie in the packed
tensor alone. An operation that only reads it is given a plain copy for as long as it takes. One
that writes, or that wants a view, makes it plain for good first; the layer sees that and multiplies
plainly from then on. The order changes, never a number: unpacked, it is the weight bit for bit.

One way to write does not reach the model meanwhile: a `state_dict()` holds plain copies, so what is
put into `state_dict()["..."]` in place stays there. Write to the parameter, or load a state dict.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

ALIASES = ("detach", "alias")  # another handle on the same weight


class Store:
    """Where the numbers of a weight lie.

    Attributes:
        packed: in oneDNN's order, or None once it was unpacked.
    """

    def __init__(self, packed: Tensor, like: Tensor, format: torch.memory_format):
        self.packed: Tensor | None = packed
        self._shape, self._stride, self._format = like.shape, like.stride(), format
        self._plain: Tensor | None = None

    def plain(self) -> Tensor:
        """In the plain order: a copy, or the one that everything shares once it was unpacked."""
        if self._plain is not None:
            return self._plain
        assert self.packed is not None
        dense = self.packed.to_dense().view(self._shape).contiguous(memory_format=self._format)
        if dense.stride() == self._stride:
            return dense
        return dense.as_strided(self._shape, self._stride)  # sides of one have any stride

    def unpack(self) -> Tensor:
        """Plain for good."""
        return self.put(self.plain())

    def put(self, plain: Tensor) -> Tensor:
        """These numbers from now on."""
        self._plain, self.packed = plain, None
        return plain


class PackedWeight(Tensor):
    """Stands for the plain weight in everything that asks for it; made by `packed_parameter`."""

    store: Store

    @staticmethod
    def __new__(cls, store: Store, like: Tensor) -> PackedWeight:
        made = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, like.shape, strides=like.stride(), dtype=like.dtype, device=like.device
        )
        made.store = store
        return made

    @property
    def data(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:  # torch's own would exchange what nobody reads
        if isinstance(value, PackedWeight):
            if value.store is self.store:  # a model that is moved to where it is
                return
            value = value.store.plain()
        self.store.put(value)
        Tensor.data.__set__(self, PackedWeight(self.store, value))  # pyright: ignore

    def data_ptr(self) -> int:
        """Who asks where the weight lies reads or writes there: it is plain from now on."""
        return self.store.unpack().data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        """Of the plain weight, for good; sharing its memory among processes asks for it, too."""
        return self.store.unpack().untyped_storage()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket.__name__ in ALIASES:
            return PackedWeight(args[0].store, args[0])
        schema = func._schema
        fresh = not schema.is_mutable and not any(own.alias_info for own in schema.returns)

        def open(leaf: Any) -> Any:
            if not isinstance(leaf, PackedWeight):
                return leaf
            return leaf.store.plain() if fresh else leaf.store.unpack()

        given, named = pytree.tree_map(open, (args, kwargs or {}))
        found = func(*given, **named)
        written = schema.is_mutable and args and isinstance(args[0], PackedWeight)
        return args[0] if written and found is given[0] else found

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Parameter:
        if id(self) not in memo:
            memo[id(self)] = nn.Parameter(self.store.plain().clone(), self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return nn.Parameter(self.store.plain(), self.requires_grad).__reduce_ex__(protocol)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"PackedWeight({tuple(self.shape)}, {self.dtype})"


class Released:
    """One layer's weight, kept packed only; made by `release`, until `restore`."""

    def __init__(self, module: Any, packed: Tensor):
        self._module, self._own = module, module.weight
        plain = self._own
        lies = plain.dim() == 4 and plain.is_contiguous(memory_format=torch.channels_last)
        format = torch.channels_last if lies else torch.contiguous_format
        self._store = Store(packed, plain, format)
        self._stand_in = nn.Parameter(PackedWeight(self._store, plain), plain.requires_grad)
        nothing = plain.new_empty(0)
        self._hook = module.register_state_dict_post_hook(_saved)
        module._parameters["weight"] = self._stand_in
        plain.data = nothing

    @property
    def packed(self) -> Tensor | None:
        """The packed weight, while it is the layer's."""
        there = self._module._parameters.get("weight") is self._stand_in
        return self._store.packed if there else None

    def restore(self) -> None:
        """The layer has its own parameter again, with the numbers that it now has."""
        self._hook.remove()
        if self._module._parameters.get("weight") is self._stand_in:
            self._module._parameters["weight"] = self._own
        with torch.inference_mode(False):  # the weight outlives that mode
            self._own.data = self._store.unpack()


def _saved(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Who saves a model reads memory, not tensors."""
    own = state.get(f"{prefix}weight")
    if isinstance(own, PackedWeight):
        state[f"{prefix}weight"] = own.store.plain()

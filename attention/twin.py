"""A module's twin: the same parts and the same weights, without the functions laid round them.

What watches or changes a model's parts (step caches, token merging, adapters) is laid round the
forward of instances, where a compiler would stumble over it, and over the Python that it holds. The
twin is of bare modules of the same classes. It shares the very dictionaries of parameters, buffers
and hooks, so weights that are exchanged or moved are its own at once; what it is made of is not
shared, so `Twin.holds` says whether the model is still made of the same parts.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import Any

from torch import Tensor, nn

from mindsd.wrap import wraps_round

PLAIN = (bool, int, float, str, type(None))


class Twin:
    """One module's.

    Attributes:
        bare: the twin itself.
    """

    def __init__(self, module: nn.Module):
        self._parts: list[tuple[dict[str, Any], str, Any]] = []
        self._values: list[tuple[Tensor, int, int]] = []
        self._hooks: list[Any] = []  # of what is inside: a compiler passes them over in silence
        self._made: dict[int, nn.Module] = {}
        self.bare = self._copy(module)
        for part in list(module.modules())[1:]:
            self._hooks += [part._forward_hooks, part._forward_pre_hooks]

    def holds(self) -> bool:
        """Whether the module still has its parts, attention processors and exchanged parameters,
        and nobody hooked into what is inside. What is written through a parameter's `.data` is not
        seen where a part has one of its own."""
        same = all(owner.get(name) is part for owner, name, part in self._parts)
        kept = all(own._version == at and own.data_ptr() == lies for own, at, lies in self._values)
        return same and kept and not any(self._hooks)

    def part_from(self, part: nn.Module, name: str) -> None:
        """Give a part of the twin a parameter of its own, made from the model's as it is now."""
        shared, own = part._parameters, part._parameters[name]
        part._parameters = dict(shared)
        self._parts += [(shared, key, value) for key, value in shared.items()]
        if own is not None and not own.is_inference():  # inference mode keeps no count of changes
            self._values.append((own, own._version, own.data_ptr()))

    def _copy(self, module: nn.Module) -> nn.Module:
        if id(module) in self._made:
            return self._made[id(module)]
        own = self._made[id(module)] = copy.copy(module)
        vars(own).pop("forward", None)
        self._parts += [(module._modules, name, part) for name, part in module._modules.items()]
        if "processor" in vars(module):
            self._parts.append((vars(module), "processor", vars(module)["processor"]))
        children = module._modules.items()
        own._modules = {name: part and self._copy(part) for name, part in children}
        return own


def why_no_twin(module: nn.Module) -> str | None:
    """Why a twin would not compute what a module does, or None."""
    for part in module.modules():
        if type(part).__module__.startswith("peft."):
            return "has adapters of peft's inside, which are switched from outside"
        if wraps_round(part, "forward") is None or part._compiled_call_impl is not None:
            return "is run by somebody else already"
    return None


def structure(module: nn.Module) -> Hashable:
    """Equal for modules that differ in the values of their weights alone."""
    return tuple(
        (
            name,
            type(part),
            tuple((key, own) for key, own in vars(part).items() if _is_plain(own)),
            tuple((key, _shape(own)) for key, own in part._parameters.items()),
            tuple((key, _shape(own)) for key, own in part._buffers.items()),
            type(getattr(part, "processor", None)),
        )
        for name, part in module.named_modules()
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(own) for own in value)
    return isinstance(value, PLAIN)


def _shape(value: Any) -> Hashable:
    if value is None:
        return None
    return type(value), type(value.data), tuple(value.shape), value.dtype, value.device

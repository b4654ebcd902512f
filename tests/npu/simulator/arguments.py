"""The arguments of one operator call, bound to its schema; none is dropped unread."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .checks import NotSimulated


class Arguments:
    """Attributes are the schema's arguments, with the schema's defaults.

    Reading marks an argument as honoured. An emulation that leaves an argument unread although the
    caller gave it another value than the default does not compute what was asked.

    Args:
        schema: of the operator, as `torch.ops.npu.npu_rms_norm.default._schema`.
        args: positional arguments of the call.
        kwargs: the others.
    """

    def __init__(self, schema: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._defaults = {a.name: a.default_value for a in schema.arguments}
        positional = [a.name for a in schema.arguments if not a.kwarg_only]
        given = dict(zip(positional, args, strict=False)) | kwargs
        self._values = self._defaults | given
        self._read: set[str] = set()
        self._op = schema.name.split("::")[1]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"{self._op} has no argument {name}")
        self._read.add(name)
        return self._values[name]

    def as_dict(self) -> dict[str, Any]:
        """All values by name; marks nothing as read."""
        return dict(self._values)

    def ignore(self, *names: str) -> None:
        """These arguments change no result; they count as read."""
        self._read.update(names)

    def check_all_read(self) -> None:
        """Raises NotSimulated if an argument with a value of its own was never read."""
        for name in self._values.keys() - self._read:
            value, default = self._values[name], self._defaults[name]
            if isinstance(value, Tensor) or value != default:
                raise NotSimulated(f"{self._op}: the simulator does not know {name}={value}")

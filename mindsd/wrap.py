"""Puts a function round one method of one object, and takes it away again.

Only the *instance* is touched, never its class, so two models of one class never meet. Wraps stack:

    wrap(unet, "forward", cache)     unet.forward -> cache -> forward
    wrap(unet, "forward", batch)     unet.forward -> batch -> cache -> forward

A wrap that is removed while another lies on top becomes transparent at once, and goes as soon as it
is on top again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any


class Wrap:
    """One function round one method; made by `wrap`."""

    def __init__(self, owner: object, method: str, function: Callable[..., Any]):
        self.owner = owner
        self.method = method
        self.function = function
        self.removed = False
        self._before = vars(owner).get(method)  # an instance attribute that lay here before
        self.original: Callable[..., Any] = getattr(owner, method)

        @functools.wraps(self.original)  # keeps the signature: diffusers asks for it
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self.removed:
                return self.original(*args, **kwargs)
            return function(self.original, *args, **kwargs)

        wrapped.mindsd_wrap = self  # type: ignore[attr-defined]
        self._wrapped = wrapped
        setattr(owner, method, wrapped)

    def remove(self) -> None:
        """Take the function away; doing it twice does nothing."""
        self.removed = True
        while (top := _on_top(self.owner, self.method)) is not None and top.removed:
            if top._before is None:
                delattr(self.owner, self.method)
            else:
                setattr(self.owner, self.method, top._before)

    def __enter__(self) -> Wrap:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def _on_top(owner: object, method: str) -> Wrap | None:
    """The wrap that lies on top; a stranger's hook may carry a copy of its mark, but is not it."""
    function = vars(owner).get(method)
    mark = getattr(function, "mindsd_wrap", None)
    return mark if isinstance(mark, Wrap) and mark._wrapped is function else None


def wraps_round(owner: object, method: str) -> list[Wrap] | None:
    """The wraps round a method, the outermost first; None where a stranger's function is there."""
    found: list[Wrap] = []
    function = vars(owner).get(method)
    while function is not None:
        mark = getattr(function, "mindsd_wrap", None)
        if not isinstance(mark, Wrap) or mark._wrapped is not function:
            return None
        found.append(mark)
        function = mark._before
    return found


def wraps_of(owner: object) -> Iterator[Wrap]:
    """Every wrap on any method of `owner`, those below others, too."""
    for function in list(vars(owner).values()):
        mark = getattr(function, "mindsd_wrap", None)
        while isinstance(mark, Wrap):
            yield mark
            mark = getattr(mark._before, "mindsd_wrap", None)


def wrap(owner: object, method: str, function: Callable[..., Any]) -> Wrap:
    """Make every call of `owner.method(...)` a call of `function(original, ...)`."""
    return Wrap(owner, method, function)

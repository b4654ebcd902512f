"""Puts our attention into any diffusers model, and takes it off again.

diffusers has two doors: most DiTs ask its dispatcher (`dispatch_attention_fn`); UNets, SD3, VAEs
and others call torch's scaled_dot_product_attention themselves. The dispatcher's default entry ends
in that same torch function, so both doors lead through it, and there we stand: each attention
module runs with torch's function diverted to a registry (divert.py).

Why this way. diffusers' code stays the only truth about projections, norms, masks, residuals,
rotary embeddings and adapters, for every processor, also for those we never heard of. The
processors stay the very objects they were, so code that looks at them goes on working. No enum,
registry or default of diffusers is changed. Processors of our own would be copies that age; a
module's `F` exchanged for ours would be seen by every thread.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from types import CodeType
from typing import Any

from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch import nn

from mindsd.errors import RequestError
from mindsd.wrap import Wrap, wrap

from .divert import Diversion
from .registry import Registry, default_registry

DISPATCHER = "dispatch_attention_fn"
TORCH = "scaled_dot_product_attention"
ELSEWHERE = {"npu_fusion_attention", "flash_attention"}  # what some call in torch's place


class Attached:
    """Our attention on a model; made by `attach`. Usable as a context manager.

    Attributes:
        served: names of the attention modules whose calls the registry answers.
        left: module name -> why it was left as it was.
    """

    def __init__(self, diversion: Diversion, wraps: dict[str, Wrap], left: dict[str, str]):
        self.served = tuple(wraps)
        self.left = left
        self._diversion = diversion
        self._wraps = wraps

    @property
    def calls(self) -> int:
        """How many attention calls the registry answered."""
        return self._diversion.calls

    @property
    def passed(self) -> Counter[str]:
        """Reason -> how many calls went to torch as they were (see `Diversion`)."""
        return self._diversion.passed

    def remove(self) -> None:
        """Everything as it was; doing it twice does nothing."""
        for placed in self._wraps.values():
            placed.remove()

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def attach(target: Any, registry: Registry | None = None) -> Attached:
    """Let a registry answer the attention of a diffusers model, or of all models of a pipeline.

    Attaching again stacks: the latest one answers; each is removed for itself, in any order.
    A processor set later is served as long as it calls torch's function or the dispatcher's
    default; attach again to learn what is left.

    Args:
        target: a module, or a pipeline (anything with a dict of `components`).
        registry: whose backends answer; None is the one that everything shares.

    Raises:
        RequestError: the target is neither.
    """
    diversion = Diversion(registry or default_registry())
    wraps: dict[str, Wrap] = {}
    left: dict[str, str] = {}
    for label, model in _models(target):
        found = list(_attention_modules(model))
        if not found:
            left[label or type(model).__name__] = "has no attention of diffusers' kind"
        for name, module, reason in found:
            name = f"{label}.{name}".strip(".") or type(module).__name__
            if reason is None:
                wraps[name] = wrap(module, "forward", diversion.run)
            else:
                left[name] = reason
    return Attached(diversion, wraps, left)


def _models(target: Any) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(target, nn.Module):
        yield "", target
        return
    components = getattr(target, "components", None)
    if not isinstance(components, dict):
        raise RequestError(f"cannot attach attention to a {type(target).__name__}: not a model")
    for label, component in components.items():
        if isinstance(component, nn.Module):
            yield label, component


def _attention_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module, str | None]]:
    """Name, module and why it must be left (None: it can be served) of everything that attends."""
    processors = [getattr(module, "processor", None) for module in model.modules()]
    for name, module in model.named_modules():
        processor = getattr(module, "processor", None)
        if processor is not None:
            yield name, module, _why_left(processor)
        elif TORCH in _names(type(module)) and not any(module is other for other in processors):
            yield name, module, None


def _why_left(processor: object) -> str | None:
    """Why this processor would not meet us in torch's function, or None."""
    names, kind = _names(type(processor)), type(processor).__name__
    if names & ELSEWHERE:
        return f"{kind} may call {', '.join(sorted(names & ELSEWHERE))} instead of {TORCH}"
    if TORCH in names:
        return None
    if DISPATCHER not in names:
        return f"{kind} does not call {TORCH}"
    chosen = getattr(processor, "_attention_backend", None)
    if chosen is None:
        chosen, _ = _AttentionBackendRegistry.get_active_backend()
    if AttentionBackendName(chosen) is not AttentionBackendName.NATIVE:
        return f"{kind} was set to diffusers' own backend {AttentionBackendName(chosen).value!r}"
    return None


def _names(kind: type) -> set[str]:
    """Every global and attribute that the code of a class and its parents mentions."""
    functions = (f for parent in kind.__mro__ for f in vars(parent).values())
    codes = [inspect.unwrap(f).__code__ for f in functions if inspect.isfunction(f)]
    names: set[str] = set()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes.extend(const for const in code.co_consts if isinstance(const, CodeType))
    return names

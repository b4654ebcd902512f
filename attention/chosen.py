"""What a user wishes of attention in one word, and the registry that answers for it."""

from __future__ import annotations

from functools import lru_cache

from mindsd.device import npu_chip
from mindsd.errors import RequestError

from .contract import Backend
from .flash_npu import FlashNpu
from .mindie_sd import MindieSd
from .npu_skipping import NpuSkipping
from .npu_sparse import CHIPS
from .registry import Registry, default_registry

PACKAGES: dict[str, type[MindieSd] | type[FlashNpu]] = {
    own.name: own for own in (MindieSd, FlashNpu)
}
SPARSE = "sparse:"
WISHES = ("auto", "off", f"{SPARSE}SHARE", *PACKAGES)


def check_attention(wish: str, kind: str) -> None:
    """See that models on a kind of device can have what is wished.

    Raises:
        RequestError: the word is unknown, or its backend is not to be had there.
    """
    if wish in ("auto", "off"):
        return
    backend = _wished(wish)
    if kind != "npu":
        raise RequestError(f"attention={wish!r} is of Ascend NPUs; the model is on {kind}")
    if isinstance(backend, NpuSkipping) and (chip := npu_chip()) not in CHIPS:
        raise RequestError(f"attention={wish!r}: a {chip} has no operator for it")
    if isinstance(backend, MindieSd | FlashNpu) and not backend.installed:
        raise RequestError(f"attention={wish!r} needs a package that is not installed: {wish}")


def registry_of(wish: str) -> Registry | None:
    """Whose backends answer; None where diffusers' own attention stays."""
    if wish == "off":
        return None
    return default_registry() if wish == "auto" else _with_first(wish)


@lru_cache
def _with_first(wish: str) -> Registry:
    """The wished backend first; those that everybody has take what it refuses."""
    usual = default_registry()
    return Registry((_wished(wish), *usual.backends), usual.paged)


def _wished(wish: str) -> Backend:
    if wish in PACKAGES:
        return PACKAGES[wish]()
    try:
        return NpuSkipping(float(wish.removeprefix(SPARSE)) if wish.startswith(SPARSE) else 0)
    except (ValueError, RequestError) as reason:
        choices = f"choose {', '.join(WISHES)}; a share is between 0 and 1, as in sparse:0.5"
        raise RequestError(f"unknown attention {wish!r}; {choices}") from reason

"""Which model a request runs on: the one it names, else one that is there already."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from mindsd.errors import UnknownModel
from mindsd.pipelines.hub import Hub
from mindsd.pipelines.shelf import Entry, Kind

from .refusal import Refusal

DOES: dict[Kind, str] = {"image": "draws pictures", "text": "writes", "vision": "sees and writes"}


def choose_model(hub: Hub, id: str | None, *kinds: Kind) -> Entry:
    """The model of this id; without one the first of these kinds that is loaded, else the first.

    Reads the shelf's folder: to be called on a thread.

    Raises:
        UnknownModel: there is none of this id.
        Refusal: it is of another kind (400), or there is none at all (404).
    """
    known = hub.shelf.entries()
    fitting = [entry for entry in known.values() if entry.kind in kinds]
    if id is not None:
        if (entry := known.get(id)) is None:
            raise UnknownModel(f"no model {id!r}; {_hint(id, fitting, DOES[kinds[0]])}")
        if entry.kind not in kinds:
            said = f"{entry.id} {DOES[entry.kind]}; ask one that {DOES[kinds[0]]}"
            raise Refusal(400, "wrong_model", said, "model")
        return entry
    if not fitting:
        raise Refusal(404, "model_not_found", f"no model here {DOES[kinds[0]]}", "model")
    loaded = hub.loaded()
    return next((entry for entry in fitting if entry.id in loaded), fitting[0])


def _hint(id: str, fitting: Sequence[Entry], does: str) -> str:
    """The nearest of those that fit, or all."""
    names = [entry.id for entry in fitting]
    near = get_close_matches(id, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"what {does}: {', '.join(names) or 'none'}"

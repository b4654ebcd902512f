"""Which model a request runs on: the one it names, else one that is there already."""

from __future__ import annotations

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
    if id is not None:
        entry = hub.shelf.find(id)
        if entry.kind not in kinds:
            said = f"{entry.id} {DOES[entry.kind]}; ask one that {DOES[kinds[0]]}"
            raise Refusal(400, "wrong_model", said, "model")
        return entry
    fitting = [entry for entry in hub.shelf.entries().values() if entry.kind in kinds]
    if not fitting:
        raise Refusal(404, "model_not_found", f"no model here {DOES[kinds[0]]}", "model")
    loaded = hub.loaded()
    return next((entry for entry in fitting if entry.id in loaded), fitting[0])

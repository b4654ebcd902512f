"""How far texts of a language model may go before they depend on what runs beside them."""

from __future__ import annotations

from typing import Any

from mindsd.errors import ModelError


def reach(config: Any) -> int | None:
    """Positions up to which a token's numbers depend on its own text alone; None for all.

    Two things look at the longest text of a forward: LongRoPE, which turns all positions another
    way beyond the length that the model was first trained at, and Llama 4's attention temperature,
    which counts positions from there.

    Raises:
        ModelError: its attention temperature does.
    """
    text = config.get_text_config(decoder=True)
    if getattr(text, "attn_temperature_tuning", False):
        raise ModelError("its attention temperature counts positions from the longest text")
    rope = getattr(text, "rope_parameters", None) or {}
    parts = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    if not any(part.get("rope_type") == "longrope" for part in parts):
        return None
    known = [part.get("original_max_position_embeddings") for part in parts]
    known.append(getattr(text, "original_max_position_embeddings", None))
    return min((own for own in known if own), default=None)

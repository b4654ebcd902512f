"""How a language model runs here: packed with others, or one request at a time and why.

Of a model that sees also how it reads pictures.
"""

from __future__ import annotations

from mindsd.pipelines.language_model import LanguageModel, load_language
from mindsd.pipelines.text_generation import TextGeneration


def how_it_runs(model: str) -> str:
    """One line about a model that is loaded for it.

    Raises:
        ModelError: it is missing, incomplete or not safe to load.
    """
    loaded = load_language(model)
    with TextGeneration(loaded):
        dtype = str(loaded.model.dtype).removeprefix("torch.")
        if loaded.why_plain is not None:
            return f"{loaded.name} runs one request at a time{_sees(loaded)}: {loaded.why_plain}"
        lanes = loaded.runner.lanes
        tokens = max(lane.pool.total * lane.pool.size for lane in lanes)
        windows = [f"{lane.window}" for lane in lanes if lane.window is not None]
        seen = f", some layers see {' or '.join(windows)} tokens" if windows else ""
        return (
            f"{loaded.name} runs packed, many requests in each forward: {dtype}, room for {tokens} "
            f"tokens in blocks of {lanes[0].pool.size}{seen}{_recorded(loaded)}{_sees(loaded)}"
        )


def _recorded(loaded: LanguageModel) -> str:
    """Whether its steps are CUDA graphs, where that could be."""
    if loaded.device.kind != "cuda" or loaded.packed is None:
        return ""
    reason = loaded.packed.why_unrecorded
    return ", its steps recorded" if reason is None else f", its steps not recorded ({reason})"


def _sees(loaded: LanguageModel) -> str:
    if loaded.vision is None:
        return ""
    if loaded.packed is None:
        return " and reads pictures by its own code"
    if loaded.packed.see_each_other:
        return "; the tokens of a picture see each other"
    return "; the tokens of a picture are read left to right"

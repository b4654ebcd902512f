"""How a language model guesses ahead, from the word or the model that was given."""

from __future__ import annotations

from pathlib import Path

from mindsd.errors import RequestError
from mindsd.pipelines.drafting import Drafting
from mindsd.pipelines.language_model import LanguageModel, load_language
from mindsd.speculative.lookup import PromptLookup

Speculation = str | Path | LanguageModel | Drafting | PromptLookup


def speculate(model: LanguageModel, how: Speculation, device: str, dtype: str) -> LanguageModel:
    """Let a model guess ahead; its texts stay the same.

    Args:
        model: that is not open yet.
        how: "lookup" (from the text itself), "none", or a smaller model of the same tokens that
            drafts: its name or folder, a `LanguageModel`, or either proposer with its options.
        device, dtype: of a draft model that is to be loaded.

    Raises:
        RequestError: it is none of these.
        ModelError: the draft model is missing, incomplete or not safe to load.
    """
    if how == "lookup":
        model.proposer = PromptLookup(ends=model.defaults.ends)
    elif isinstance(how, PromptLookup):
        model.proposer = how
    elif isinstance(how, Drafting):
        model.drafting = how
    elif isinstance(how, LanguageModel):
        model.drafting = Drafting(how)
    elif isinstance(how, str | Path):
        if how != "none":
            model.drafting = Drafting(load_language(how, device, dtype))
    else:
        raise RequestError(
            f"speculation is 'lookup', 'none' or a draft model, got a {type(how).__name__}"
        )
    return model

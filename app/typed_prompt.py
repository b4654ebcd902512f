"""Prompts as people type them: `<lora:ink:0.8>` names an adapter, `(word:1.2)` weighs a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from mindsd.errors import RequestError
from mindsd.pipelines.image import ImagePipeline
from mindsd.pipelines.lora_tags import read_lora_tags
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.prompt_syntax import wants_weighting
from mindsd.pipelines.shelf import lora_files
from mindsd.pipelines.weighting import suggests_weighting


def untagged(parameters: ImageParameters) -> ImageParameters:
    """The same with the tags of the prompt among the LoRAs; weights of one that is named in both
    places are added.

    Raises:
        RequestError: a tag is wrong, or a weight is too large.
    """
    prompt, tagged = read_lora_tags(parameters.prompt)
    loras = dict(parameters.loras)
    for name, weight in tagged:
        loras[name] = loras.get(name, 0.0) + weight
    return replace(parameters, prompt=prompt, loras=tuple(loras.items()))


class TypedPrompts:
    """How the prompts of one run are taken.

    Args:
        loras: folder of the adapters' files; None for none.
        weighted: whether (word:1.2) and [word] are weights and prompts may outgrow the encoder's
            window; None where a prompt has such words or is long, and the model can.
    """

    def __init__(self, loras: Path | None = None, weighted: bool | None = None) -> None:
        self._files: Mapping[str, Path] = {} if loras is None else lora_files(loras)
        self._weighted = weighted

    def taken(self, pipeline: ImagePipeline, parameters: ImageParameters) -> ImageParameters:
        """The parameters that a typed prompt stands for; its adapters are loaded.

        Raises:
            RequestError: a tag is wrong, or names no adapter.
            ModelError: an adapter does not fit the model.
        """
        found = untagged(parameters)
        for name, _ in found.loras:
            self._bring(pipeline, name)
        weighted = self._weighted
        if weighted is None:
            weighted = found.weighted or suggests_weighting(pipeline.arguments, found)
        return replace(found, weighted=weighted)

    def advice(self, parameters: ImageParameters) -> str | None:
        """What a prompt seems to want that is not there, in a sentence; None for nothing."""
        wants = wants_weighting(parameters.prompt) and not parameters.weighted
        if self._weighted is not None or not wants or find_spec("compel") is not None:
            return None
        return (
            "words like (this:1.2) are drawn as they stand: weights take pip install "
            "'mindsd[prompt]'; --not-weighted says that none are meant"
        )

    def _bring(self, pipeline: ImagePipeline, name: str) -> None:
        if name in pipeline.loras:
            return
        if name not in self._files:
            known = ", ".join(self._files) or "none; --loras names their folder"
            raise RequestError(f"there is no LoRA {name!r}; there are: {known}")
        pipeline.add_lora(name, self._files[name])

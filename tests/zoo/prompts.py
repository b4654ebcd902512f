"""Weighted prompts given to zoo pipelines: as embeddings, and as images drawn together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import torch

from mindsd.pipelines.arguments import Arguments
from mindsd.pipelines.own import own_copy
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.weighting import weigh
from mindsd.request import Notice, Request
from tests.zoo.cases import CASES, SIZE
from tests.zoo.drawing import engine_for, held

FAMILIES = ("sd", "sdxl", "sd3", "flux")
WINDOWED = FAMILIES[:3]
LONG = "a red circle, two blue stars, a green square"  # three windows of CLIP's 24 tokens
SQUARE: dict[str, Any] = SIZE
SHORT = {"flux": {"max_sequence_length": 16}, "sd3": {"max_sequence_length": 16}}


def encoded(
    pipe: Any, prompt: str, *, said: list[str] | None = None, **wishes: Any
) -> Mapping[str, Any]:
    """What the pipeline would be called with."""
    asked = ImageParameters(prompt, weighted=True, **SQUARE, **wishes)
    arguments = Arguments(pipe, "zoo")
    notices: list[Notice] = []
    request = cast(Request, SimpleNamespace(emit=notices.append))
    found = weigh(pipe, arguments, asked, arguments.of(asked), request)
    if said is not None:
        said += [notice.text for notice in notices]
    return found


def embeds(family: str, prompt: str, **wishes: Any) -> torch.Tensor:
    wishes = {"options": SHORT.get(family, {}), **wishes}
    return encoded(CASES[family].pipe(), prompt, **wishes)["prompt_embeds"]


def together(pipe: Any, asked: Sequence[ImageParameters]) -> tuple[list[torch.Tensor], int]:
    """Images [3, H, W] of requests that start at once, and the forwards of text that it took."""
    arguments = Arguments(pipe, "zoo")

    def body(one: ImageParameters, request: Request) -> torch.Tensor:
        mine: Any = own_copy(pipe, lambda done, total: None)
        given = weigh(mine, arguments, one, arguments.of(one), request)
        generator = torch.Generator().manual_seed(one.seed)
        return mine(**given, generator=generator, return_dict=False, output_type="pt")[0][0]

    with engine_for(pipe) as engine:
        with held(engine):
            requests = [engine.submit(partial(body, one)) for one in asked]
        return [request.result(60) for request in requests], engine.counts.forwards["text"]

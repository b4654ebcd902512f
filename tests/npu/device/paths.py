"""Whole paths on one device, for the tests; `python -m tests.npu.device.paths` walks some of them.

It prints as JSON how far the device of this process, float16, is from the CPU, and which operators
were asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

# Imported in functions: diffusers and transformers import torch_npu, which must be started before.

PROMPTS = ("a red circle", "2 blue stars")
ASKED: dict[str, Any] = {"steps": 2, "seed": 7, "width": 32, "height": 32}
SHORT = {"max_sequence_length": 16}
PICTURES: dict[str, dict[str, Any]] = {"sd": {}, "sdxl": {}, "sd3": SHORT, "flux": SHORT}
GREEDY: dict[str, Any] = {"temperature": 0, "ignore_eos": True}
NEW = 12


@contextmanager
def diffusers_without_npu() -> Iterator[None]:
    """Its GEGLU and RMSNorm ask whether torch_npu is installed, not where their tensors are."""
    from diffusers.models import activations, normalization

    with ExitStack() as undone:
        for module in (activations, normalization):
            undone.enter_context(patch.object(module, "is_torch_npu_available", lambda: False))
        yield


def opened(name: str, device: str, dtype: torch.dtype = torch.float32, **how: str) -> Any:
    """A pipeline of the zoo, ready to draw.

    Args:
        how: `attention` and `layers`.
    """
    from mindsd.pipelines.text_to_image import TextToImage
    from tests.zoo.cases import CASES

    pipe = CASES[name].build().to(device, dtype)
    return TextToImage.load(pipe, device=torch.device(device).type, **how)


def levels(images: list[Any]) -> Any:
    return np.stack([np.asarray(image) for image in images]).astype(int)


@cache
def on_cpu(name: str, seed: int = ASKED["seed"]) -> Any:
    with diffusers_without_npu(), opened(name, "cpu") as own:
        asked = {**ASKED, "seed": seed, "options": PICTURES[name]}
        return levels(own(PROMPTS, **asked).images)


def text_generation(model: Any, layers: str = "auto") -> Any:
    from mindsd.pipelines.cache_options import CacheOptions
    from mindsd.pipelines.text_generation import TextGeneration
    from tests.zoo.tiny_llama import tiny_tokenizer

    cache = CacheOptions(memory=2**26)
    how: Any = {"cache": cache, "speculation": "none", "layers": layers}
    own = TextGeneration.load(model, tiny_tokenizer(), **how)
    assert own.model.why_plain is None
    return own


def answers(case: Any, model: Any) -> list[list[int]]:
    """Greedy tokens of two talks, the second of two pictures."""
    from mindsd.pipelines.cache_options import CacheOptions
    from mindsd.pipelines.language_model import in_memory
    from mindsd.pipelines.vision_chat import VisionChat, shown
    from tests.zoo.vision import colours

    pictures = [colours(1, 40, 32), colours(2, 24, 48)]
    talks = [[shown(pictures[0], "What is it?")], [shown(pictures, "What is it?")]]
    cache = CacheOptions(memory=2**26)
    with VisionChat(in_memory(model, case.tokenizer, case.processor, cache=cache)) as own:
        assert own.model.why_plain is None
        requests = [own.submit(talk, max_tokens=8, **GREEDY) for talk in talks]
        return [list(request.result(60)[0].tokens) for request in requests]


def main() -> None:
    from tests.npu.simulator.tier1 import start

    npu = start()
    found: dict[str, Any] = {"levels": {}}
    for name, options in PICTURES.items():
        with opened(name, "npu", torch.float16) as own:
            images = levels(own(PROMPTS, **ASKED, options=options).images)
        found["levels"][name] = int(abs(images - on_cpu(name)).max())
    found["drawn by"] = sorted(set(npu.log.ops()))
    npu.log.clear()
    expected, tokens = texts("llama")
    found |= {"same text": tokens == expected, "told by": sorted(set(npu.log.ops()))}
    print(json.dumps(found))


def texts(kind: str) -> tuple[list[list[int]], list[list[int]]]:
    """Greedy tokens on the CPU by transformers, and on the device by us, float16."""
    from tests.zoo.decoders import decoder, generated, prompts

    model, given = decoder(kind, head_dim=128).half(), prompts(4)
    expected = [generated(model, text, NEW) for text in given]
    with text_generation(model.to("npu")) as own:
        return expected, [list(one.tokens) for one in own(given, max_tokens=NEW, **GREEDY)]


if __name__ == "__main__":
    main()

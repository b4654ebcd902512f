"""Prompts with weights, and longer than the text encoder's window, for the pipelines that compel
can serve: Stable Diffusion 1 and 2, SDXL, Stable Diffusion 3, Flux, and their other forms.

The syntax is A1111's (prompt_syntax.py), the arithmetic compel's: a weight above 1 moves a word's
vectors away from those of an empty prompt, one below 1 also toward the prompt without the word; at
0 and less the word is as good as absent. Pictures are therefore not A1111's, pixel for pixel, which
scales vectors and evens out their mean. With nothing weighted they are diffusers' own.

CLIP reads a long prompt window by window (77 tokens, broken after a punctuation mark), a BREAK
begins a new one, and the shorter of prompt and negative prompt is filled up with empty ones. The
one pooled vector of CLIP knows no weights and reads the first window up to the first BREAK. T5 has
one window of its own (`max_sequence_length`); there, and so in all of Flux, a BREAK is a space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn.functional import pad

from mindsd.errors import RequestError
from mindsd.pipelines.arguments import Arguments
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.prompt_family import Family, find_family
from mindsd.pipelines.prompt_syntax import Part, parse, plain_text, wants_weighting
from mindsd.pipelines.solo import ATTENTION_OPTIONS
from mindsd.pipelines.weighted_text import Reader, compel
from mindsd.request import Notice, Request

TEXTS = ("prompt", "negative_prompt")
ENDINGS = ("", "_2", "_3")


def check_weighting(arguments: Arguments, parameters: ImageParameters) -> None:
    """Refuse weights where they cannot be had.

    Raises:
        RequestError: the pipeline's encoders, an option, a prompt, or that compel is missing.
    """
    if not parameters.weighted:
        return
    kind = type(arguments.pipe).__name__
    if find_family(arguments) is None:
        raise RequestError(
            f"{kind} reads prompts in a way that cannot be weighted: leave weighted out"
        )
    compel()
    options = parameters.options
    if given := sorted(name for name in options if name.endswith("prompt_embeds")):
        raise RequestError(f"options {', '.join(given)} and weighted: say one of the two")
    if any("scale" in (options.get(name) or {}) for name in ATTENTION_OPTIONS):
        raise RequestError("a LoRA's scale in options does not reach weighted prompts: omit one")
    for name in [text + ending for text in TEXTS for ending in ENDINGS]:
        text = options.get(name) if name in options else getattr(parameters, name, None)
        if not isinstance(text, str | None):
            raise RequestError(f"a weighted {name} is text, got {type(text).__name__}")
        parse(text or "")


def suggests_weighting(arguments: Arguments, parameters: ImageParameters) -> bool:
    """Whether a face had better ask for weights: they can be had, and the prompts have some, or may
    be longer than a window. Those that do fit after all are drawn as without, bit for bit.

    It counts bytes, as tokens are hardly more: the tokenizer is the engine's thread's.
    """
    family = find_family(arguments)
    if family is None or find_spec("compel") is None:
        return False
    texts = [parameters.prompt, parameters.negative_prompt or ""]
    tokenizers = [getattr(arguments.pipe, f"tokenizer{ending}") for ending in family.side]
    room = min((own.model_max_length for own in tokenizers), default=math.inf) - 2
    return any(wants_weighting(text) or len(text.encode(errors="replace")) > room for text in texts)


@torch.no_grad()
def weigh(
    pipe: Any,
    arguments: Arguments,
    parameters: ImageParameters,
    given: Mapping[str, Any],
    request: Request,
) -> Mapping[str, Any]:
    """The arguments of the pipeline's call with encoded prompts in the place of texts.

    Args:
        pipe: the request's own copy, whose encoders are asked.
        arguments, parameters: as of `check_weighting`, which refused what cannot be done.
        given: what the pipeline would be called with; returned where nothing is to be weighted.
        request: told what of the prompts is not read.
    """
    family = find_family(arguments) if parameters.weighted else None
    if family is None:
        return given
    room = given.get("max_sequence_length") or arguments.default("max_sequence_length")
    encoders = _Encoders(pipe, family, room, request)
    prompts = {"": encoders.read(_texts("prompt", given), given.get("clip_skip"))}
    if _needs_negative(pipe, arguments, parameters, given):
        # Pipelines read it at their usual layer, whatever clip_skip says.
        prompts["negative_"] = encoders.read(_texts("negative_prompt", given), None)
    taken = {name + ending for name in TEXTS for ending in ENDINGS}
    kept = {name: value for name, value in given.items() if name not in taken}
    longest = max(prompt.length for prompt in prompts.values())
    for name, prompt in prompts.items():
        kept[f"{name}prompt_embeds"] = prompt.joined(longest)
        if prompt.pooled is not None:
            kept[f"{name}pooled_prompt_embeds"] = prompt.pooled
    return kept


def _texts(name: str, given: Mapping[str, Any]) -> dict[str, str]:
    """What each encoder reads: its own text, else the first's."""
    return {ending: given.get(name + ending) or given.get(name) or "" for ending in ENDINGS}


def _needs_negative(
    pipe: Any, arguments: Arguments, parameters: ImageParameters, given: Mapping[str, Any]
) -> bool:
    said = given.get("negative_prompt") is not None
    if "negative_prompt_embeds" not in arguments.accepted:
        return False
    if "true_cfg_scale" in arguments.accepted:  # Flux guides by a prompt only where there is one
        return said
    if not said and getattr(pipe.config, "force_zeros_for_empty_prompt", False):
        return False  # SDXL puts zeros there
    return parameters.guidance is None or arguments.guides(parameters.guidance)


class _Encoders:
    """The text encoders of one request."""

    def __init__(self, pipe: Any, family: Family, room: int | float | None, request: Request):
        self._pipe, self._family, self._request = pipe, family, request
        self._room = None if room is None else int(room)
        self._readers: dict[tuple[str, int | None], Reader] = {}

    def read(self, texts: Mapping[str, str], skip: int | None) -> _Prompt:
        """One prompt by every encoder that is there; clip_skip counts from the usual layer."""
        family, sections = self._family, {end: parse(text) for end, text in texts.items()}
        layer = None if skip is None and family.last == 1 else family.last + (skip or 0)
        clips = {end: self._reader(end, layer) for end in {*family.side, *family.pooled}}
        side = [clips[end] for end in family.side]
        first = slice(1 if side else None)  # where there are no windows, all
        pooled = [clips[end].pooled(plain_text(sections[end][first])) for end in family.pooled]
        return _Prompt(
            side,
            [clips[end].windows(sections[end]) for end in family.side],
            None if family.long is None else self._t5(family.long, sections[family.long]),
            torch.cat(pooled, dim=-1) if pooled else None,
        )

    def _reader(self, ending: str, layer: int | None, room: int | None = None) -> Reader:
        key = ending, layer
        if key not in self._readers:
            normed = self._family.last == 1  # layers before the last one lack its norm
            self._readers[key] = Reader(self._pipe, ending, layer, normed, room)
        return self._readers[key]

    def _t5(self, ending: str, sections: list[list[Part]]) -> torch.Tensor:
        if getattr(self._pipe, f"text_encoder{ending}") is None:
            width = self._pipe.transformer.config.joint_attention_dim
            dtype, device = self._pipe.text_encoder.dtype, self._pipe._execution_device
            return torch.zeros(1, self._room or 0, width, dtype=dtype, device=device)
        one = [[part for section in sections for part in section]]
        reader = self._reader(ending, None, self._room)
        if unread := reader.cut(one):
            self._request.emit(Notice(unread))
        return reader.windows(one)


@dataclass(frozen=True)
class _Prompt:
    """One prompt encoded: windows of the CLIPs `side` by side, T5's, the pooled vector."""

    side: list[Reader]
    windows: list[torch.Tensor]
    long: torch.Tensor | None
    pooled: torch.Tensor | None

    @property
    def length(self) -> int:
        """Tokens of its windows."""
        return max((own.shape[1] for own in self.windows), default=0)

    def joined(self, length: int) -> torch.Tensor:
        """[1, tokens, width] with empty windows up to `length` tokens."""
        filled = [
            torch.cat([own, *[reader.empty()] * ((length - own.shape[1]) // reader.length)], dim=1)
            for reader, own in zip(self.side, self.windows, strict=True)
        ]
        if self.long is None:
            return torch.cat(filled, dim=-1)
        if not filled:
            return self.long
        clip = torch.cat(filled, dim=-1)
        wide = pad(clip, (0, self.long.shape[-1] - clip.shape[-1]))
        return torch.cat([wide, self.long], dim=1)

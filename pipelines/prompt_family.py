"""How pipelines read prompts: which text encoders there are, and how what they say is joined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5EncoderModel,
)

from mindsd.pipelines.arguments import Arguments

CLIP = (CLIPTextModel, CLIPTextModelWithProjection)


@dataclass(frozen=True)
class Family:
    """How pipelines of one kind join what their text encoders say, by the endings of their names.

    Attributes:
        side: CLIPs whose windows are joined side by side.
        pooled: CLIPs whose pooled vectors are joined.
        long: a T5, read after the windows.
        last: the layer of the CLIPs that is read, counted from the end; clip_skip counts from it.
    """

    side: tuple[str, ...] = ()
    pooled: tuple[str, ...] = ()
    long: str | None = None
    last: int = 2


FAMILIES = {  # by how diffusers names the classes; the first that fits
    "StableDiffusionXL": Family(("", "_2"), ("_2",)),
    "StableDiffusion3": Family(("", "_2"), ("", "_2"), "_3"),
    "StableDiffusion": Family(("",), last=1),
    "LatentConsistencyModel": Family(("",), last=1),
    "Flux": Family((), ("",), "_2"),
}


def find_family(arguments: Arguments) -> Family | None:
    """How this pipeline reads prompts; None where it is not known."""
    pipe, accepted = arguments.pipe, arguments.accepted
    names = [kind.__name__ for kind in type(pipe).__mro__ if kind.__name__.endswith("Pipeline")]
    fitting = (own for prefix, own in FAMILIES.items() if any(n.startswith(prefix) for n in names))
    family = next(fitting, None)
    if family is None or "prompt_embeds" not in accepted:
        return None
    if ("pooled_prompt_embeds" in accepted) != bool(family.pooled):
        return None
    side = tuple(
        end for end in family.side if getattr(pipe, f"text_encoder{end}", None) is not None
    )
    clips = {*side, *family.pooled}
    long = family.long is None or _reads(pipe, family.long, T5EncoderModel, object)
    if not clips or not long or not all(_reads(pipe, end, CLIP, CLIPTokenizer) for end in clips):
        return None
    return replace(family, side=side)


def _reads(pipe: Any, ending: str, encoders: Any, tokenizers: Any) -> bool:
    encoder = getattr(pipe, f"text_encoder{ending}", None)
    if encoder is None:
        return ending == "_3"  # SD3 is often loaded without its T5, and puts zeros there
    masked = getattr(encoder.config, "use_attention_mask", False)
    tokenizer = getattr(pipe, f"tokenizer{ending}", None)
    return isinstance(encoder, encoders) and isinstance(tokenizer, tokenizers) and not masked

"""What the caller should know though the image is drawn: one sentence each."""

from __future__ import annotations

from transformers import CLIPTokenizer

from mindsd.pipelines.arguments import Arguments
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.prompt_family import find_family
from mindsd.pipelines.solo import why_solo


def notices(arguments: Arguments, parameters: ImageParameters) -> list[str]:
    """What of the request the model will not read, and why it goes slower than it could."""
    found = unread_negative(arguments, parameters) + too_long(arguments, parameters)
    pipe = arguments.pipe
    if "generator" not in arguments.accepted:
        found.append(f"{type(pipe).__name__} takes no generator: the seed says nothing")
    steps = parameters.steps or arguments.default("num_inference_steps") or 0
    cache = parameters.acceleration.step_cache
    if cache is not None and steps < cache.least:
        found.append(f"nothing is cached between fewer than {cache.least} steps")
    reason = why_solo(pipe, parameters.options)
    if reason is not None:
        found.append(f"it is drawn alone, not batched with other requests: {reason}")
    return found


def unread_negative(arguments: Arguments, parameters: ImageParameters) -> list[str]:
    """Without guidance the negative prompt is not read, and the pipelines do not say so."""
    if not (parameters.negative_prompt or "").strip():
        return []
    name = arguments.guidance_name
    given = parameters.options.get("true_cfg_scale")
    if "true_cfg_scale" in arguments.accepted and name != "true_cfg_scale":
        scale = given if given is not None else arguments.default("true_cfg_scale")
        way = "options true_cfg_scale above 1"
    else:
        scale = arguments.default(name) if parameters.guidance is None else parameters.guidance
        way = "guidance above 1"
    if scale is None or arguments.guides(scale):
        return []
    return [f"the negative prompt is not read at guidance {scale:g}; it takes {way}"]


def too_long(arguments: Arguments, parameters: ImageParameters) -> list[str]:
    """CLIP cuts prompts at its own length, unless they are weighted."""
    if parameters.weighted:
        return []
    readers = [part for name, part in arguments.pipe.components.items() if "tokenizer" in name]
    readers = [reader for reader in readers if reader is not None]
    if not readers or not all(isinstance(reader, CLIPTokenizer) for reader in readers):
        return []  # another encoder reads on where CLIP stops
    longest = max(reader.model_max_length for reader in readers)
    found = []
    for name in ("prompt", "negative_prompt"):
        tokens = len(readers[0](getattr(parameters, name) or "").input_ids)
        if tokens > longest:
            words = name.replace("_", " ")
            way = "; weighted=True reads all" if find_family(arguments) else ""
            cut = f"the {words} has {tokens} tokens, {arguments.name} reads only {longest}"
            found.append(cut + way)
    return found

"""Putting tiny-vlm together in float16: model, tokenizer with chat template, image processor."""

import argparse
from pathlib import Path

import torch
from transformers import Qwen3VLForConditionalGeneration

from .vlm import Learner
from .vlm_parts import (
    LAYERS,
    VISION_WIDTH,
    WIDTH,
    build_image_processor,
    build_model,
    build_tokenizer,
)


def model_from_checkpoint(
    path: Path,
    width: int = WIDTH,
    vision_width: int = VISION_WIDTH,
    layers: int = LAYERS,
) -> Qwen3VLForConditionalGeneration:
    """The averaged weights of a run that is still going on."""
    learner = Learner(build_model(build_tokenizer(), width, vision_width, layers))
    state = torch.load(path, weights_only=True)
    with torch.no_grad():
        for parameter, value in zip(learner.parameters(), state["average"], strict=True):
            parameter.copy_(value)
    return learner.model


def assemble(model: Qwen3VLForConditionalGeneration, out: Path) -> None:
    """Write everything that stock classes need to answer questions."""
    model.half().save_pretrained(out)
    build_tokenizer().save_pretrained(out)
    build_image_processor().save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, required=True, help="the training folder")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--unfinished", action="store_true", help="take the last checkpoint")
    options = parser.parse_args()
    if options.unfinished:
        trained = model_from_checkpoint(options.parts / "vlm.checkpoint")
    else:
        trained = Qwen3VLForConditionalGeneration.from_pretrained(options.parts / "vlm")
    assemble(trained, options.out)

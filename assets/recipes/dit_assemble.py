"""Putting tiny-dit together as a StableDiffusion3Pipeline folder in float16."""

# diffusers annotates less than it takes and returns.
# pyright: reportArgumentType=false

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from mindsd.weights.defaults import DEFAULTS

from .assemble import merge_logs, read_options
from .dit import Student, build_scheduler, load_student

# A third text encoder, which is missing, would be 256 tokens of zeros beside 64 of the picture.
CALL = {"steps": 20, "guidance": 3.0, "options": {"max_sequence_length": 0}}


def student_from_checkpoint(parts: Path, **size: int) -> Student:
    """The averaged weights of a run that is still going on."""
    student = load_student(parts, **size)
    state = torch.load(parts / "dit.checkpoint", weights_only=True)
    with torch.no_grad():
        for parameter, value in zip(student.parameters(), state["average"], strict=True):
            parameter.copy_(value)
    return student


def assemble(parts: Path, unfinished: bool = False, **size: int) -> StableDiffusion3Pipeline:
    """A pipeline of the parts in a training folder, in float16; one encoder serves as both."""
    if unfinished:
        student = student_from_checkpoint(parts, **size)
        transformer, encoder = student.transformer, student.text_encoder
    else:
        transformer = SD3Transformer2DModel.from_pretrained(parts / "transformer")
        encoder = CLIPTextModelWithProjection.from_pretrained(parts / "pooling_encoder")
    autoencoder = AutoencoderKL.from_pretrained(parts / "vae")
    autoencoder.register_to_config(shift_factor=0.0)  # this pipeline adds it
    tokenizer = CLIPTokenizer.from_pretrained(parts / "tokenizer")
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=build_scheduler(),
        vae=autoencoder,
        text_encoder=encoder,
        tokenizer=tokenizer,
        text_encoder_2=encoder,
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    return pipeline.to(torch.float16)


def write_folder(pipeline: StableDiffusion3Pipeline, out: Path) -> None:
    """The pipeline and how it wants to be called, without the paths its parts came from."""
    pipeline.save_pretrained(out)
    for path in out.glob("*/config.json"):
        told = json.loads(path.read_text())
        if told.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")
    (out / DEFAULTS).write_text(json.dumps(CALL, indent=1) + "\n")


if __name__ == "__main__":
    options = read_options(__doc__)
    write_folder(assemble(options.parts, options.unfinished), options.out)
    if options.log:
        options.log.write_text(merge_logs(options.parts))

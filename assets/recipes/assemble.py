"""Putting the trained parts together as a StableDiffusionPipeline folder in float16."""

# diffusers annotates less than it takes and returns.
# pyright: reportArgumentType=false

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from mindsd.weights.defaults import DEFAULTS

from .denoiser import build_denoiser, build_scheduler

CALL = {"steps": 20, "guidance": 3.0}  # what its card was measured with


def denoiser_from_checkpoint(path: Path) -> UNet2DConditionModel:
    """The averaged weights of a run that is still going on."""
    unet = build_denoiser()
    state = torch.load(path, weights_only=True)
    with torch.no_grad():
        for parameter, value in zip(unet.parameters(), state["average"], strict=True):
            parameter.copy_(value)
    return unet


def assemble(parts: Path, unfinished: bool = False) -> StableDiffusionPipeline:
    """A pipeline of the parts in a training folder, in float16; no safety checker."""
    if unfinished:
        unet = denoiser_from_checkpoint(parts / "denoiser.checkpoint")
    else:
        unet = UNet2DConditionModel.from_pretrained(parts / "unet")
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(parts / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(parts / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(parts / "tokenizer"),
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipeline.to(torch.float16)


def merge_logs(parts: Path) -> str:
    """The logs of all training runs in a folder as one JSON object, a line for each entry."""
    runs = []
    for path in sorted(parts.glob("*.log.json")):
        lines = ",\n".join(json.dumps(line) for line in json.loads(path.read_text()))
        runs.append(f"{json.dumps(path.name.removesuffix('.log.json'))}: [\n{lines}\n]")
    return "{\n" + ",\n".join(runs) + "\n}\n"


def read_options(description: str | None) -> argparse.Namespace:
    """What the recipes that put pipelines together are told on the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--parts", type=Path, required=True, help="the training folder")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--unfinished", action="store_true", help="take the last checkpoint")
    parser.add_argument("--log", type=Path, help="write the logs of all runs here")
    return parser.parse_args()


if __name__ == "__main__":
    options = read_options(__doc__)
    assemble(options.parts, options.unfinished).save_pretrained(options.out)
    (options.out / DEFAULTS).write_text(json.dumps(CALL, indent=1) + "\n")
    if options.log:
        options.log.write_text(merge_logs(options.parts))

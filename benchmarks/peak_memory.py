"""The most memory that a process takes to draw: diffusers as it is, and this package.

    python benchmarks/peak_memory.py --rounds 2 --json memory.json --markdown memory.md

The model has Stable Diffusion 1.5's shape and random weights in bfloat16, saved once into a folder.
Each way loads it and draws one guided image, in a process of its own. Told are the most memory that
lay there for it (VmHWM, as Linux counts: pages of the weights' files among it, which the system may
take back) and the most that is its own (RssAnon, looked at every 10 ms). Speed is not measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mindsd.device import cpu_facts
from mindsd.pipelines.text_to_image import TextToImage

DTYPE = torch.bfloat16
GLANCE = 0.01  # seconds between two looks
PROMPT, GUIDANCE, SEED = "a fox in the snow", 7.5, 7
SHOWN = {"VmHWM": "most, MiB", "RssAnon": "of its own"}


def main() -> int:
    options = read_options()
    if options.worker:
        way, folder = options.worker
        return work(way, folder, options)
    with tempfile.TemporaryDirectory() as room:
        folder = options.folder or Path(room) / "sd15"
        if not folder.is_dir():
            save(folder, options.tiny)
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in options.ways}
        for _ in range(options.rounds):
            for way in options.ways:
                found[way].append(watched(way, folder, options))
    report = {"cpu": cpu_facts()[0], "threads": options.threads, "size": options.size}
    report |= {"torch": torch.__version__, "ways": found}
    text = markdown(report)
    print(text)
    for path, content in ((options.json, json.dumps(report, indent=1)), (options.markdown, text)):
        if path is not None:
            path.write_text(content + "\n")
    return 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS)[:2])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, help="of the model; made there if there is none")
    parser.add_argument("--tiny", action="store_true", help="a model of few weights, to try it")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def save(folder: Path, tiny: bool) -> None:
    """A pipeline's folder with the shapes of Stable Diffusion 1.5."""
    wide: Any = (32, 32, 32, 32) if tiny else (320, 640, 1280, 1280)
    tall: Any = (32, 32, 32, 32) if tiny else (128, 256, 512, 512)
    text = 64 if tiny else 768
    config = CLIPTextConfig(
        hidden_size=text,
        intermediate_size=4 * text,
        num_hidden_layers=2 if tiny else 12,
        num_attention_heads=text // 16 if tiny else 12,
    )
    autoencoder: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": tall,
        "layers_per_block": 2,
        "sample_size": 512,
    }
    unet: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": text}
    parts = {
        "vae": _made(lambda: AutoencoderKL(**autoencoder)),
        "text_encoder": _made(lambda: CLIPTextModel(config)),
        "unet": _made(lambda: UNet2DConditionModel(block_out_channels=wide, **unet)),
        "tokenizer": _tokenizer(),
        "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
        "safety_checker": None,
        "feature_extractor": None,
    }
    pipe: Any = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.save_pretrained(folder, safe_serialization=True)


@torch.no_grad()
def _made(build: Callable[[], nn.Module]) -> nn.Module:
    """With random weights; small ones, so that what they give stays within bfloat16."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = build()
    model = model.to(DTYPE).to_empty(device="cpu")
    for name, own in model.named_parameters():
        own.fill_(1) if own.dim() == 1 and name.endswith("weight") else own.normal_(0, 0.02)
    return model


def _tokenizer() -> CLIPTokenizer:
    """Every byte is a token."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{own}</w>" for own in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def watched(way: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What a process takes that draws in this way, in bytes, and when."""
    told = ["--threads", str(options.threads), "--size", str(options.size)]
    told += ["--steps", str(options.steps), "--worker", way, str(folder)]
    command = [sys.executable, __file__, *told]
    most = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            most = max(most, memory(process.pid).get("RssAnon", 0))
            time.sleep(GLANCE)
        said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise RuntimeError(f"{way} ended with {process.returncode}")
    return {"RssAnon": most, "VmHWM": memory_told(said)[-1], "stages": memory_told(said)}


def memory_told(said: str) -> list[int]:
    return [int(own) for own in json.loads(said.splitlines()[-1])]


def memory(process: int | str) -> dict[str, int]:
    """A process's counts of memory, in bytes; none where it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(number) * 1024 for name, number, _ in fields}


def work(way: str, folder: str, options: argparse.Namespace) -> int:
    """Draw, and tell the most memory after the imports, loading and drawing."""
    torch.set_num_threads(options.threads)
    told = [memory("self")["VmHWM"]]
    WAYS[way](folder, options, told)
    print(json.dumps(told))
    return 0


def _diffusers(folder: str, options: argparse.Namespace, told: list[int]) -> None:
    pipe: Any = DiffusionPipeline.from_pretrained(folder, dtype=DTYPE)
    told.append(memory("self")["VmHWM"])
    asked = {"num_inference_steps": options.steps, "guidance_scale": GUIDANCE}
    generator = torch.Generator().manual_seed(SEED)
    pipe(PROMPT, width=options.size, height=options.size, generator=generator, **asked)
    told.append(memory("self")["VmHWM"])


def _ours(folder: str, options: argparse.Namespace, told: list[int], layers: str = "auto") -> None:
    with TextToImage.load(folder, device="cpu", dtype="bfloat16", layers=layers) as draw:
        told.append(memory("self")["VmHWM"])
        asked = {"steps": options.steps, "guidance": GUIDANCE, "seed": SEED}
        draw(PROMPT, width=options.size, height=options.size, **asked)
    told.append(memory("self")["VmHWM"])


def _plain_layers(folder: str, options: argparse.Namespace, told: list[int]) -> None:
    _ours(folder, options, told, "off")


WAYS = {"diffusers": _diffusers, "mindsd": _ours, "mindsd, layers off": _plain_layers}


def markdown(report: dict[str, Any]) -> str:
    heads = [f"{said} | to {next(iter(report['ways']))}" for said in SHOWN.values()]
    lines = [
        f"{report['cpu']}, {report['threads']} threads, torch {report['torch']}, bfloat16, "
        f"{report['size']}x{report['size']}\n",
        f"way | {' | '.join(heads)} | after imports, loading, drawing",
        "---|---|---|---|---|---",
    ]
    first = next(iter(report["ways"].values()))
    for way, runs in report["ways"].items():
        cells = []
        for what in SHOWN:
            base, own = (statistics.median(run[what] for run in some) for some in (first, runs))
            cells.append(f"{own / 2**20:.0f} | {own / base:.2f}x")
        stages = zip(*(run["stages"] for run in runs), strict=True)
        told = [f"{statistics.median(own) / 2**20:.0f}" for own in stages]
        lines.append(f"{way} | {' | '.join(cells)} | {', '.join(told)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

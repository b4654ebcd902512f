"""What each acceleration saves and costs, beside plain diffusers' images and beside fewer steps.

    python benchmarks/acceleration.py --rounds 3 --prompts 40

Held-out prompts of tiny-sd, drawn in batches by an unmodified diffusers pipeline: plain, under
`accelerate`, and plain with fewer steps, in turns (A B C ... A B C ...). Time is the median over
the rounds; PSNR and SSIM are medians over the images, against the plain ones; "right" is the share
of images in which the checker finds all that the prompt says.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mindsd.assets.recipes.captions import caption
from mindsd.assets.recipes.checker import check
from mindsd.assets.recipes.evaluate import held_out_scenes
from mindsd.config import SPEEDS, Acceleration
from mindsd.pipelines.accelerate import accelerate
from mindsd.pipelines.loading import load_model
from mindsd.quality import psnr, ssim
from mindsd.stepcache.plan import StepCache
from mindsd.tokenmerge.plan import TokenMerge

GUIDANCE = 3.0
WAYS: dict[str, Acceleration] = {
    **{f"--speed {name}": own for name, own in SPEEDS.items() if not own.is_plain},
    "--step-cache adaptive:0.2": Acceleration(StepCache(threshold=0.2)),
    "--step-cache skip:2": Acceleration(StepCache.parse("skip:2")),
    "--step-cache interval:4": Acceleration(StepCache(interval=4)),
    "--token-merge 0.5, from 16 tokens": Acceleration(token_merge=TokenMerge(0.5, tokens=16)),
    "--guidance-until 0.6": Acceleration(guidance_until=0.6),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--fewer", type=int, nargs="*", default=[16, 12, 8])
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    model = load_model("tiny-sd", options.device, options.dtype)
    pipe: Any = model.pipe
    pipe.set_progress_bar_config(disable=True)
    scenes = held_out_scenes(options.prompts)

    def draw(steps: int) -> tuple[list[np.ndarray], float]:
        images, began = [], time.perf_counter()
        for first in range(0, len(scenes), options.batch):
            batch = scenes[first : first + options.batch]
            generators = [torch.Generator().manual_seed(first + i) for i in range(len(batch))]
            images += list(
                pipe(
                    [caption(scene) for scene in batch],
                    num_inference_steps=steps,
                    guidance_scale=GUIDANCE,
                    generator=generators,
                    output_type="np",
                ).images
            )
        return images, time.perf_counter() - began

    def under(name: str) -> AbstractContextManager[Any]:
        return accelerate(pipe, WAYS[name]) if name in WAYS else nullcontext()

    plain = f"plain, {options.steps} steps"
    names = [plain, *WAYS, *(f"plain, {steps} steps" for steps in options.fewer)]
    steps = dict.fromkeys(names, int(options.steps))
    steps |= {f"plain, {fewer} steps": fewer for fewer in options.fewer}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    images: dict[str, list[np.ndarray]] = {}
    draw(2)
    turns = [(turn, name) for turn in range(options.rounds) for name in names]
    for _, name in track(turns, "drawing", console=Console(stderr=True)):
        with under(name):
            images[name], took = draw(steps[name])
        seconds[name].append(took / len(scenes))
    table = Table("way", "s/image", "to plain", "PSNR dB", "SSIM", "right", box=None)
    baseline = statistics.median(seconds[plain])
    for name in names:
        pairs = list(zip(images[name], images[plain], strict=True))
        right = [
            check(scene, (image * 255).round().astype(np.uint8))["all"]
            for scene, image in zip(scenes, images[name], strict=True)
        ]
        took = statistics.median(seconds[name])
        table.add_row(
            name,
            f"{took:.3f}",
            f"{baseline / took:.2f}x",
            f"{statistics.median(psnr(a, b) for a, b in pairs):.1f}",
            f"{statistics.median(ssim(a, b) for a, b in pairs):.4f}",
            f"{np.mean(right):.2f}",
        )
    Console(width=100).print(table)
    print(
        f"{len(scenes)} prompts in batches of {options.batch}, {options.dtype}, "
        f"{torch.get_num_threads()} threads, {model.device.name}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()

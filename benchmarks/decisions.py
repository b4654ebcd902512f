"""Who decides which steps are computed: every row of a batch for itself, or the batch as one.

    python benchmarks/decisions.py --rounds 3 --batches 4

Batches of eight held-out prompts of tiny-sd that begin together, under tolerances from strict to
loose. "rows" is mindsd: a row skips when its own forecast is good enough. "batch" is the rule of
the other caches: the mean error over the batch decides for all. Both run in turns (A B A B). Then
"rows" again as eight requests of different step counts on one engine, each against the image it
gives alone. benchmarks/flow.py has requests that stand at different steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mindsd import TextToImage
from mindsd.assets.recipes.captions import caption
from mindsd.assets.recipes.evaluate import held_out_scenes
from mindsd.config import Acceleration
from mindsd.pipelines.accelerate import accelerate
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters
from mindsd.quality import psnr, ssim
from mindsd.stepcache.cell import OutputCell
from mindsd.stepcache.output import Outputs
from mindsd.stepcache.plan import StepCache

REQUESTS, STEPS, GUIDANCE = 8, 24, 3.0
TOLERANCES = (0.005, 0.01, 0.02, 0.04)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    model = load_model("tiny-sd", options.device, "float32")
    prompts = [caption(scene) for scene in held_out_scenes(REQUESTS * options.batches)]
    batched = Batched(model.pipe, prompts)
    ways = [(who, tolerance) for tolerance in TOLERANCES for who in ("rows", "batch")]
    seconds: dict[Any, list[float]] = {way: [] for way in [None, *ways]}
    images: dict[Any, list[np.ndarray]] = {}
    batched.draw(None)
    turns = [way for _ in range(options.rounds) for way in [None, *ways]]
    for way in track(turns, "drawing", console=Console(stderr=True)):
        began = time.perf_counter()
        images[way] = batched.draw(way)
        seconds[way].append(time.perf_counter() - began)
    print_table(seconds, images, batched)
    with TextToImage(model) as draw:
        print_alone(draw, prompts[:REQUESTS])
    print(f"{torch.get_num_threads()} threads, {model.device.name}, torch {torch.__version__}")


class Batched:
    """Batches of prompts under plain diffusers, or with steps left out.

    Attributes:
        rows, calls: that the denoiser computed for one image, and its calls for eight, by way.
    """

    def __init__(self, pipe: Any, prompts: list[str]):
        pipe.set_progress_bar_config(disable=True)
        self.pipe, self.prompts = pipe, prompts
        self.rows: dict[Any, float] = {}
        self.calls: dict[Any, float] = {}

    def draw(self, way: tuple[str, float] | None) -> list[np.ndarray]:
        if way is None:
            return self._draw(way)
        who, tolerance = way
        how = Acceleration(StepCache(tolerance=tolerance))
        with accelerate(self.pipe, how):
            if who == "rows":
                return self._draw(way)
            with as_one():
                return self._draw(way)

    def _draw(self, way: tuple[str, float] | None) -> list[np.ndarray]:
        computed: list[int] = []
        counted = self.pipe.unet.conv_in.register_forward_pre_hook(
            lambda module, given: computed.append(len(given[0]))
        )
        images: list[np.ndarray] = []
        for first in range(0, len(self.prompts), REQUESTS):
            places = range(first, first + REQUESTS)
            drawn = self.pipe(
                [self.prompts[place] for place in places],
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=[torch.Generator().manual_seed(place) for place in places],
                output_type="np",
            ).images
            images.extend(drawn)  # an array: += would add its numbers
        counted.remove()
        self.rows[way] = sum(computed) / len(self.prompts)
        self.calls[way] = len(computed) * REQUESTS / len(self.prompts)
        return images


@contextmanager
def as_one() -> Iterator[None]:
    """All rows of a call skip until the same step: the one that their mean error asks for."""
    rows_decide = Outputs._choose_next

    def batch_decides(self: Outputs, cells: Mapping[int, OutputCell], values: Any) -> None:
        before = {place: cell.curvature for place, cell in cells.items()}
        rows_decide(self, cells, values)
        now = [cell.curvature for cell in cells.values() if cell.curvature is not None]
        known = [curvature for curvature in before.values() if curvature is not None]
        if not now or not known:
            return
        anchor = next(iter(cells.values())).value
        assert anchor is not None
        gap = abs(self._at - anchor.at)
        due = self._due(gap, max(statistics.mean(now), statistics.mean(known)))
        for cell in cells.values():
            cell.due = due

    Outputs._choose_next = batch_decides
    try:
        yield
    finally:
        Outputs._choose_next = rows_decide


def print_table(
    seconds: dict[Any, list[float]], images: dict[Any, list[np.ndarray]], drawn: Batched
) -> None:
    table = Table("who decides", "tolerance", "s/image", "to plain", "rows/image", "calls/eight")
    for name in ("PSNR", "p10", "worst"):
        table.add_column(name)
    for way, took in seconds.items():
        near = [psnr(a, b) for a, b in zip(images[way], images[None], strict=True)]
        table.add_row(
            "nobody: plain" if way is None else way[0],
            "" if way is None else f"{way[1]:g}",
            f"{statistics.median(took) / len(images[way]):.3f}",
            f"{statistics.median(seconds[None]) / statistics.median(took):.2f}x",
            f"{drawn.rows[way]:.1f}",
            f"{drawn.calls[way]:.1f}",
            f"{statistics.median(near):.1f}",
            f"{np.percentile(near, 10):.1f}",
            f"{min(near):.1f}",
        )
    Console(width=100).print(table)


def print_alone(draw: TextToImage, prompts: list[str]) -> None:
    """Requests of different lengths on one engine, against each by itself."""
    how = Acceleration(StepCache(tolerance=0.01))
    wished = [
        ImageParameters(prompt, steps=STEPS + i, seed=i, guidance=GUIDANCE, acceleration=how)
        for i, prompt in enumerate(prompts)
    ]
    alone = [draw.submit(one).result() for one in wished]
    requests = [draw.submit(one) for one in wished]
    together = [request.result() for request in requests]
    pairs = list(zip(together, alone, strict=True))
    print(
        f"{REQUESTS} requests of {STEPS} to {STEPS + REQUESTS - 1} steps at once, each against the "
        f"image it gives alone: worst PSNR {min(psnr(a, b) for a, b in pairs):.1f} dB, "
        f"worst SSIM {min(ssim(a, b) for a, b in pairs):.4f}"
    )


if __name__ == "__main__":
    main()

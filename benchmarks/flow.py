"""A flow of requests at different steps: rows that decide for themselves, and a batch that cannot.

    python benchmarks/flow.py --rounds 2 --requests 24

Requests of 24 to 31 steps for tiny-sd, eight at a time on one engine. As their lengths differ they
soon stand at different steps. "rows" is mindsd: a row that skips goes on to the step that it
computes, so batches stay full. "as one" is a batch with one decision: at every step all of its rows
meet, and skip it only if none of them needs it. Both run in turns with "plain", which computes all
(A B A B), and are compared at equal quality: look along the tolerances.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from mindsd import TextToImage
from mindsd.assets.recipes.captions import caption
from mindsd.assets.recipes.evaluate import held_out_scenes
from mindsd.batching.coroutine import make_batchable
from mindsd.batching.limits import Limits
from mindsd.config import Acceleration
from mindsd.engine import Engine
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters
from mindsd.quality import psnr
from mindsd.stepcache.calls import _Rows
from mindsd.stepcache.plan import StepCache

LIVE, STEPS, GUIDANCE = 8, 24, 3.0
TOLERANCES = (0.005, 0.01, 0.02, 0.04, 0.08)
PLAIN = ("plain", 0.0)
Way = tuple[str, float]


@dataclass
class Ran:
    """What a way took and gave: seconds of each round, images and rows of the last."""

    seconds: list[float] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    rows: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--requests", type=int, default=24)
    options = parser.parse_args()
    model = load_model("tiny-sd", "cpu", "float32")
    ways = [PLAIN, *((who, tolerance) for tolerance in TOLERANCES for who in ("rows", "as one"))]
    ran = {way: Ran() for way in ways}
    with Engine(Limits(rows=2 * LIVE)) as engine, TextToImage(model, engine) as draw:
        for way in ways[:3]:
            drawn(draw, LIVE, way, Ran())
        turns = [way for _ in range(options.rounds) for way in ways]
        for way in track(turns, "drawing", console=Console(stderr=True)):
            drawn(draw, options.requests, way, ran[way])
    print_table(ran)
    print(f"{torch.get_num_threads()} threads, {model.device.name}, torch {torch.__version__}")


def drawn(draw: TextToImage, count: int, way: Way, ran: Ran) -> None:
    """Runs a way once."""
    who, tolerance = way
    given: list[int] = []
    counted = draw.model.pipe.unet.conv_in.register_forward_pre_hook(
        lambda module, latents: given.append(len(latents[0]))
    )
    began = time.perf_counter()
    with as_one() if who == "as one" else nullcontext():
        ran.images = flow(draw, count, tolerance)
    ran.seconds.append(time.perf_counter() - began)
    ran.rows = sum(given)
    counted.remove()


def flow(draw: TextToImage, count: int, tolerance: float) -> list[np.ndarray]:
    """All asked for at once; the engine takes eight at a time."""
    prompts = [caption(scene) for scene in held_out_scenes(count)]
    cache = StepCache(tolerance=tolerance) if tolerance else None
    requests = [
        draw.submit(
            ImageParameters(
                prompt,
                steps=STEPS + place % LIVE,
                seed=place,
                guidance=GUIDANCE,
                acceleration=Acceleration(cache),
            )
        )
        for place, prompt in enumerate(prompts)
    ]
    return [np.asarray(one.result()) / 255 for one in requests]


class Meeting(torch.nn.Module):
    """Where all live requests meet before a step.

    Attributes:
        needed: whether any of the last ones needs it. (What is given back must not tell: the engine
            sees to it that no request learns of another.)
    """

    needed = False

    def forward(self, needs: Tensor) -> Tensor:
        """[requests, 1], 1 where one needs the step; given back."""
        self.needed = bool(needs.any())
        return needs


@contextmanager
def as_one() -> Iterator[None]:
    """A step is skipped by all that are live, or by none."""
    decide, meeting = _Rows._skipped, Meeting()
    met = make_batchable(meeting, "forward", "denoise", "meeting")

    def decided(self: _Rows, own: list[int]) -> list[int]:
        skipped = decide(self, own)
        meeting(torch.tensor([[float(len(skipped) < len(own))]]))
        if meeting.needed:
            skipped = []
            self.trajectory.skipped[self.position.module] = frozenset()
        return skipped

    _Rows._skipped = decided
    try:
        yield
    finally:
        _Rows._skipped = decide
        met.remove()


def print_table(ran: dict[Way, Ran]) -> None:
    table = Table("who decides", "tolerance", "s/image", "to plain", "rows/image", "PSNR", "p10")
    plain = ran[PLAIN]
    for (who, tolerance), own in ran.items():
        near = [psnr(a, b) for a, b in zip(own.images, plain.images, strict=True)]
        row = [who, f"{tolerance:g}" if tolerance else ""]
        row += [f"{statistics.median(own.seconds) / len(near):.3f}"]
        row += [f"{statistics.median(plain.seconds) / statistics.median(own.seconds):.2f}x"]
        row += [f"{own.rows / len(near):.1f}"]
        if tolerance:
            row += [f"{statistics.median(near):.1f}", f"{np.percentile(near, 10):.1f}"]
        table.add_row(*row)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()

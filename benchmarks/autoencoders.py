"""Decoding a picture by autoencoders of published shapes, with random weights: tiny beside whole.

    python benchmarks/autoencoders.py --rounds 3 --threads 2

Each as diffusers runs it and as mindsd does on a CPU (attention/cpu_fused.py), in turns (A B A B);
seconds are medians (least-most) over the rounds, in float32. It says nothing of how alike pictures
are: weights are random.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from rich.console import Console
from rich.table import Table

from mindsd.attention.cpu_fused import fuse_cpu

LEVELS = 4
KL: dict[str, Any] = {  # of Stable Diffusion 1.5; SDXL's is alike
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ["DownEncoderBlock2D"] * LEVELS,
    "up_block_types": ["UpDecoderBlock2D"] * LEVELS,
    "layers_per_block": 2,
}


@torch.inference_mode()
def main() -> int:
    options = read_options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    latents = torch.randn(1, 4, options.side // 8, options.side // 8)
    found = timed(ways(), latents, options.rounds)
    first = statistics.median(found[next(iter(found))])
    table = Table("autoencoder", "seconds", "to the first", title=f"{options.side} px, float32")
    for name, values in found.items():
        middle = statistics.median(values)
        span = f"{middle:.3f} ({min(values):.3f}-{max(values):.3f})"
        table.add_row(name, span, f"{first / middle:.2f}x")
    Console(width=100).print(table)
    return 0


def ways() -> Mapping[str, Callable[[torch.Tensor], object]]:
    """What is timed, by name."""
    made: dict[str, Callable[[torch.Tensor], object]] = {}
    for kind, shape in ((AutoencoderKL, KL), (AutoencoderTiny, {})):
        for ours in (False, True):
            vae: Any = kind(**shape).eval()
            if ours:
                fuse_cpu(vae)
            name = f"{kind.__name__}, {'mindsd' if ours else 'diffusers'}"
            made[name] = vae.decode
    return made


def timed(
    made: Mapping[str, Callable[[torch.Tensor], object]], latents: torch.Tensor, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each, one for each round; a small picture is decoded before."""
    found: dict[str, list[float]] = {name: [] for name in made}
    for decode in made.values():
        decode(latents[..., :8, :8])
    for _ in range(rounds):
        for name, decode in made.items():
            began = time.perf_counter()
            decode(latents)
            found[name].append(time.perf_counter() - began)
            print(f"{name}: {found[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return found


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--side", type=int, default=512, help="pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

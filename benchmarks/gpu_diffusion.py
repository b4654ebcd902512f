"""Image models on a GPU: diffusers, diffusers with torch.compile, peers, and what is made here.

    python benchmarks/gpu_diffusion.py --models sdxl --budget 240 --json gpu-sdxl.json
    python benchmarks/gpu_diffusion.py --models flux --budget 240 --json gpu-flux.json
    python benchmarks/gpu_diffusion.py --device cpu --tiny                # to try the command

Shapes are those of SDXL (2.6 B parameters) and Flux (12 B) at 1024 x 1024, bfloat16; weights are
random and made on the device, so speed is valid and quality is not measured. Each case prints what
it found at once, and a line with bars for each way at its end; nothing new is begun after the
budget. Ways take turns in one process; numbers are medians with the least and the greatest.

    steps   one forward of the denoiser; the first call of a way, which compiles, is told apart
    engine  requests joining at random times, against one after the other
    caches  images with steps left out, against DeepCache, cache-dit and FirstBlockCache
    whole   as steps, with all of a UNet as one graph: that compiles for a minute or more

torch keeps the code that it wrote on disk: of ways that come to the same graph (Flux's blocks) only
the first pays for it, and a second run of the command compiles faster.

Peers run unmodified in this environment, where they are found: DeepCache 0.1.1 and cache-dit 1.5.3
(pip install --no-deps, cache-dit needs yaml). "fp8" needs torchao. Without them their rows are left
out, and it is said.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.utils.logging import set_verbosity_error
from gpu_diffusion_caches import caches
from gpu_diffusion_clock import Clock
from gpu_diffusion_engine import engine
from gpu_diffusion_models import MODELS, denoiser, pipeline
from gpu_diffusion_steps import first_line, steps
from gpu_diffusion_ways import COMPILED, EAGER, REGIONAL, WHOLE, quick_ways
from peers.job import Job
from peers.models import asked

from mindsd.device import find_device

CASES = ("steps", "engine", "caches", "whole")
DTYPE = torch.bfloat16


def main() -> int:
    options = read_options()
    transformers.logging.set_verbosity_error()
    set_verbosity_error()
    device = find_device(options.device)
    clock = Clock(device.kind, options.budget)
    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    clock.say(f"{device.name}, {versions}, {DTYPE}".replace("torch.b", "b"))
    report: dict[str, Any] = {"device": device.name, "torch": torch.__version__}
    for name in options.models:
        report[name] = {}
        model = denoiser(name, options.tiny, options.layers, device.kind, DTYPE)
        size = sum(own.numel() for own in model.parameters()) / 1e9
        clock.say(f"{name}: {size:.2f} B parameters on {device.kind}")
        for case in options.cases:
            try:
                report[name][case] = measured(case, name, model, options, clock)
            except Exception as error:  # the next case goes on
                clock.say(f"{name} {case}: failed, {first_line(error)}")
            if options.json is not None:
                options.json.write_text(json.dumps(report, indent=1) + "\n")
        del model
        if device.kind == "cuda":
            torch.cuda.empty_cache()
    clock.say("done")
    return 0


def measured(
    case: str, name: str, model: Any, options: argparse.Namespace, clock: Clock
) -> dict[str, Any]:
    if case == "whole" and name != "sdxl" or clock.is_over:
        why = "the time is over" if clock.is_over else f"{name} is compiled by blocks"
        clock.say(f"{name} {case}: skipped, {why}")
        return {}
    size, rounds = options.size, options.rounds
    if case in ("steps", "whole"):
        ways = quick_ways() if case == "steps" else [EAGER, REGIONAL, WHOLE, COMPILED]
        return steps(name, model, ways, size, rounds, clock)
    few = options.steps if name == "sdxl" else max(2, options.steps // 3)
    if case == "engine":
        return engine(name, model, size, few, options.requests, rounds, clock)
    pipe = pipeline(name, model)
    job = Job(name, "", {}, size, options.steps, 0, "bfloat16", guided=True, tiny=options.tiny)
    given = {k: _placed(v, model) for k, v in asked(job, pipe).items()}
    given["num_inference_steps"] = options.steps
    return caches(name, pipe, given, rounds, options.threshold, clock)


def _placed(value: Any, model: Any) -> Any:
    return value.to(next(model.parameters()).device) if isinstance(value, torch.Tensor) else value


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="a few channels, 128 pixels")
    parser.add_argument("--layers", type=int, help="blocks of each kind at most, to shorten it")
    parser.add_argument("--size", type=int, help="pixels of a side (default 1024)")
    parser.add_argument("--steps", type=int, default=12, help="of an image; Flux's engine: a third")
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threshold", type=float, default=0.1, help="of FirstBlockCache")
    parser.add_argument("--budget", type=float, default=240, help="seconds")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.size = options.size or (128 if options.tiny else 1024)
    return options


if __name__ == "__main__":
    sys.exit(main())

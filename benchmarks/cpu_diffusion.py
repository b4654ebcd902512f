"""Denoisers and an autoencoder on a CPU: diffusers as it is, its peers, and this package.

    python benchmarks/cpu_diffusion.py --rounds 5 --threads 2 --profile --json cpu.json
    python benchmarks/cpu_diffusion.py --models vae --ways eager openvino mindsd

Shapes are those of Stable Diffusion 1.5 and PixArt-alpha at 512 x 512, two images at once (guided),
and a decoding of one image; weights are random, so speed is valid and quality is not measured. Ways
take turns (A B A B); numbers are medians with the least and the greatest. The peers torch.compile
(weights frozen) and OpenVINO (in an environment of its own under .peers/) run the same weights and
inputs in processes that wait while others have their turn; what they do once (a minute or more for
each model) is not timed. What cannot run is named below the table. In float32 it takes 18 GB.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from cpu_diffusion_tables import markdown
from cpu_diffusion_ways import OURS, WAYS, entered
from peers.environments import NoEnvironment
from peers.forwards import MODELS, Forward, made
from peers.waiting import Asked, Failed, Waiting, waiting
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mindsd.device import DTYPES, cpu_facts, find_device
from mindsd.errors import RequestError

CEILING = 2048  # rows and columns of the matrices whose product is the ceiling
PEERS = ("openvino", "compile")  # as they get ready: converting takes the most memory
DTYPE_NAMES = ("float32", "bfloat16")
Clock = Callable[[], float]
CLOCKS = {False: time.perf_counter, True: time.process_time}


@torch.inference_mode()
def main() -> int:
    options = read_options()
    torch.set_num_threads(options.threads)
    found = [measure(name, options) for name in options.models]
    report = {"cpu": cpu_facts()[0], "threads": options.threads, "torch": torch.__version__}
    report |= {"clock": clock_of(options).__name__, "dtype": options.dtype, "models": found}
    text = markdown(report)
    print(text)
    for path, content in ((options.json, json.dumps(report, indent=1)), (options.markdown, text)):
        if path is not None:
            path.write_text(content + "\n")
    return 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    known = (*WAYS[:2], *reversed(PEERS), *OURS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--ways", nargs="+", choices=known, default=list(known))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    fast = str(find_device("cpu").dtype).removeprefix("torch.")
    parser.add_argument(
        "--dtype", choices=DTYPE_NAMES, default=fast, help="this CPU's: %(default)s"
    )
    parser.add_argument("--processor-time", action="store_true", help="on a busy machine, 1 thread")
    parser.add_argument("--profile", action="store_true", help="what the time goes to")
    parser.add_argument("--tiny", action="store_true", help="few channels: to try the command")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


def clock_of(options: argparse.Namespace) -> Clock:
    return CLOCKS[options.processor_time]


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All ways of one model, in turns."""
    forward = made(name, DTYPES[options.dtype], options.tiny)
    with FlopCounterMode(display=False) as counter:
        plain = forward(*forward.inputs)
    found: dict[str, Any] = {
        "model": name,
        "parameters": sum(own.numel() for own in forward.parameters()),
        "tflop": counter.get_total_flops() / 1e12,
        "ceilings": [],
        "seconds": {},
        "apart": {},
        "versions": {},
        "profiles": {},
        "left_out": {},
    }
    with ExitStack() as stack:
        peers = ready(name, options, stack, found["left_out"])
        for way, own in peers.items():
            found["apart"][way] = difference(own.output, plain)
            found["versions"][way] = own.version
        for _ in range(options.rounds):
            turns(forward, plain, peers, options, found)
    return found


def ready(
    name: str, options: argparse.Namespace, stack: ExitStack, left_out: dict[str, str]
) -> dict[str, Waiting]:
    """The peers' processes; why there is none goes into `left_out`."""
    found: dict[str, Waiting] = {}
    told = name, options.dtype, options.threads, clock_of(options).__name__, options.tiny
    for way in PEERS:
        if way in options.ways:
            try:
                found[way] = stack.enter_context(waiting(Asked(way, *told)))
            except (Failed, NoEnvironment) as error:
                left_out[way] = str(error)
    return found


def turns(
    forward: Forward,
    plain: Tensor,
    peers: dict[str, Waiting],
    options: argparse.Namespace,
    found: dict[str, Any],
) -> None:
    """One round: every way once, and the ceiling."""
    found["ceilings"].append(ceiling(DTYPES[options.dtype], clock_of(options)))
    for way in options.ways:
        if way in found["left_out"]:
            continue
        try:
            took = (
                peers[way].turn() if way in peers else own_turn(way, forward, plain, options, found)
            )
        except (Failed, RequestError) as error:
            found["left_out"][way] = str(error)
            found["seconds"].pop(way, None)
        else:
            found["seconds"].setdefault(way, []).append(took)


def own_turn(
    way: str, forward: Forward, plain: Tensor, options: argparse.Namespace, found: dict[str, Any]
) -> float:
    """Seconds of one forward in this process, after one that is compared with the plain one.

    Raises:
        RequestError: the way cannot be had here.
    """
    with entered(way, forward.model):
        result = forward(*forward.inputs)
        took = timed(lambda: forward(*forward.inputs), clock_of(options))
        if way not in found["apart"]:
            found["apart"][way] = difference(result, plain)
            if options.profile and way in OURS:
                found["profiles"][way] = profiled(forward)
    return took


def ceiling(dtype: torch.dtype, clock: Clock) -> float:
    """TFLOP/s of a large product of matrices, now."""
    a, b = (torch.randn(CEILING, CEILING).to(dtype) for _ in range(2))
    best = min(timed(lambda: torch.nn.functional.linear(a, b), clock) for _ in range(6))
    return 2 * CEILING**3 / best / 1e12


def timed(function: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    start = clock()
    function()
    return clock() - start


def difference(found: Tensor, plain: Tensor) -> dict[str, float]:
    one, other = found.double().flatten(), plain.double().flatten()
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=0)
    return {
        "cosine": float(cosine),
        "greatest": float((one - other).abs().max() / other.abs().max()),
    }


def profiled(forward: Forward) -> list[dict[str, Any]]:
    """The operators that take most of the time, and what the kernels in C and Python take."""
    start = time.perf_counter()
    with torch.profiler.profile() as profile:
        forward(*forward.inputs)
    whole = (time.perf_counter() - start) * 1e3
    events = sorted(profile.key_averages(), key=lambda own: -own.self_cpu_time_total)
    rows = [(own.key, own.count, own.self_cpu_time_total / 1e3) for own in events]
    rows.insert(0, ("between torch's operators", 1, whole - sum(row[2] for row in rows)))
    rows = sorted(rows, key=lambda row: -row[2])[:12]
    return [{"operator": key, "calls": count, "ms": ms} for key, count, ms in rows]


if __name__ == "__main__":
    sys.exit(main())

"""Denoisers and an autoencoder on a CPU: diffusers as it is, and what this package makes of it.

    python benchmarks/cpu_diffusion.py --rounds 5 --threads 2 --profile --json cpu.json

Shapes are those of Stable Diffusion 1.5 and PixArt-alpha at 512 x 512, two images at once (guided),
and a decoding of one image; weights are random, so speed is valid and quality is not measured. Ways
take turns in one process (A B A B); numbers are medians with the least and the greatest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mindsd.allocator import keep_large
from mindsd.attention.cpu_fused import fuse_cpu
from mindsd.attention.for_diffusers import attach
from mindsd.attention.int8_layers import round_layers
from mindsd.attention.registry import default_registry
from mindsd.device import cpu_facts

DTYPE = torch.bfloat16
CEILING = 2048  # rows and columns of the matrices whose product is the ceiling
MODELS = {"unet": "UNet step", "dit": "DiT step", "vae": "VAE decode"}
WAYS = ("eager", "channels_last", "mindsd", "int8")
OURS = WAYS[2:]
COMPILED = "compile"
Forward = Callable[[], Tensor]
Clock = Callable[[], float]
CLOCKS = {False: time.perf_counter, True: time.process_time}


@torch.inference_mode()
def main() -> int:
    options = read_options()
    torch.set_num_threads(options.threads)
    ways = (*options.ways, *([COMPILED] if options.compile else []))
    found = [measure(name, ways, options) for name in options.models]
    clock = CLOCKS[options.processor_time].__name__
    report = {"cpu": cpu_facts()[0], "threads": options.threads, "clock": clock, "models": found}
    text = markdown(report)
    print(text)
    for path, content in ((options.json, json.dumps(report, indent=1)), (options.markdown, text)):
        if path is not None:
            path.write_text(content + "\n")
    return 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--processor-time", action="store_true", help="on a busy machine, 1 thread")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too: a minute each")
    parser.add_argument("--profile", action="store_true", help="what the time goes to")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


def measure(name: str, ways: tuple[str, ...], options: argparse.Namespace) -> dict[str, Any]:
    model, forward = made(name)
    ways = tuple(way for way in ways if way != "int8" or name != "vae")  # it rounds denoisers
    with FlopCounterMode(display=False) as counter:
        plain = forward()
    clock = CLOCKS[options.processor_time]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    ceilings: list[float] = []
    apart: dict[str, dict[str, float]] = {}
    profiles: dict[str, list[dict[str, Any]]] = {}
    for turn in range(options.rounds):
        ceilings.append(ceiling(clock))
        for way in ways:
            with entered(way, model) as on:
                call = forward if on is None else on(forward)
                result = call()
                seconds[way].append(timed(call, clock))
                if turn == 0:
                    apart[way] = difference(result, plain)
                    if options.profile and way in OURS:
                        profiles[way] = profiled(call)
    rate = counter.get_total_flops() / 1e12
    return {
        "model": name,
        "parameters": sum(own.numel() for own in model.parameters()),
        "tflop": rate,
        "ceiling_tflops": statistics.median(ceilings),
        "seconds": seconds,
        "apart": apart,
        "profiles": profiles,
    }


def made(name: str) -> tuple[nn.Module, Forward]:
    """A model with random weights, and one forward of it."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPE)
    try:
        return {"unet": _unet, "dit": _dit, "vae": _vae}[name]()
    finally:
        torch.set_default_dtype(before)


def _unet() -> tuple[nn.Module, Forward]:
    model = UNet2DConditionModel(sample_size=64, cross_attention_dim=768).eval()
    latents, text = torch.randn(2, 4, 64, 64), torch.randn(2, 77, 768)
    return model, lambda: model(latents, torch.tensor(500), text, return_dict=False)[0]


def _dit() -> tuple[nn.Module, Forward]:
    model = PixArtTransformer2DModel(
        sample_size=64, cross_attention_dim=1152, caption_channels=4096
    ).eval()
    latents, text, mask = torch.randn(2, 4, 64, 64), torch.randn(2, 120, 4096), torch.ones(2, 120)
    given: dict[str, Any] = {"encoder_hidden_states": text, "encoder_attention_mask": mask}
    given["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
    given["timestep"] = torch.tensor([500, 500])
    return model, lambda: model(latents, **given, return_dict=False)[0]


def _vae() -> tuple[nn.Module, Forward]:
    widths = (128, 256, 512, 512)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
        block_out_channels=widths,  # pyright: ignore[reportArgumentType]
        layers_per_block=2,
    ).eval()
    latents = torch.randn(1, 4, 64, 64)
    decode = cast(Any, model.decode)
    return model, lambda: decode(latents, return_dict=False)[0]


@contextmanager
def entered(way: str, model: nn.Module) -> Iterator[Callable[[Forward], Forward] | None]:
    """The model in one of the ways; what to put round its forward, if anything."""
    with ExitStack() as stack:
        if way == "channels_last":
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            stack.callback(lambda: model.to(memory_format=torch.contiguous_format))  # pyright: ignore
        if way == "int8":
            stack.enter_context(round_layers(model))
        if way in OURS:
            for own in ours(model):
                stack.enter_context(own)
        yield compiled if way == COMPILED else None


def ours(model: nn.Module) -> Iterator[AbstractContextManager[Any]]:
    """What `LoadedModel` puts on the modules of a large model on a CPU."""
    fused = fuse_cpu(model)
    assert fused is not None
    yield fused
    yield keep_large()
    registry = default_registry()
    if registry.outdoes_torch(torch.device("cpu"), DTYPE):
        yield attach(model, registry)


_compiled: dict[int, Forward] = {}


def compiled(forward: Forward) -> Forward:
    """torch.compile with its weights frozen; once for each model."""
    if id(forward) not in _compiled:
        import torch._inductor.config as inductor

        inductor.freezing = True
        _compiled[id(forward)] = torch.compile(forward)
    return _compiled[id(forward)]


def ceiling(clock: Clock) -> float:
    """TFLOP/s of a large product of matrices, now."""
    a, b = (torch.randn(CEILING, CEILING).to(DTYPE) for _ in range(2))
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
        forward()
    whole = (time.perf_counter() - start) * 1e3
    events = sorted(profile.key_averages(), key=lambda own: -own.self_cpu_time_total)
    rows = [(own.key, own.count, own.self_cpu_time_total / 1e3) for own in events]
    rows.insert(0, ("between torch's operators", 1, whole - sum(row[2] for row in rows)))
    rows = sorted(rows, key=lambda row: -row[2])[:12]
    return [{"operator": key, "calls": count, "ms": ms} for key, count, ms in rows]


def markdown(report: dict[str, Any]) -> str:
    told = report["cpu"], f"{report['threads']} threads", report["clock"]
    lines = [", ".join((*told, f"torch {torch.__version__}", "bfloat16"))]
    for own in report["models"]:
        size, top, base = own["parameters"] / 1e6, own["ceiling_tflops"], next(iter(own["seconds"]))
        lines += [
            f"\n{MODELS[own['model']]}: {size:.0f} M parameters, {own['tflop']:.2f} TFLOP; "
            f"a product of {CEILING} x {CEILING}: {top:.2f} TFLOP/s\n",
            f"way | seconds | spread | against {base} | of the ceiling | cosine | greatest error",
            "---|---|---|---|---|---|---",
        ]
        first = statistics.median(own["seconds"][base])
        for way, seconds in own["seconds"].items():
            middle, apart = statistics.median(seconds), own["apart"][way]
            share = own["tflop"] / middle / top
            lines.append(
                f"{way} | {middle:.2f} | {min(seconds):.2f}-{max(seconds):.2f} | "
                f"{first / middle:.2f}x | {share:.0%} | {apart['cosine']:.5f} | "
                f"{apart['greatest']:.1%}"
            )
        for way, rows in own["profiles"].items():
            each = [f"{row['ms']:8.1f} ms {row['calls']:4} {row['operator']}" for row in rows]
            lines += [f"\n{way}:", *each]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

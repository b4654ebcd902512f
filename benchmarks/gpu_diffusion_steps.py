"""One step of a denoiser in each way, in turns; the first call of a way compiles it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from gpu_diffusion_clock import Clock, ratio, spread
from gpu_diffusion_models import step
from gpu_diffusion_ways import EAGER, Skipped, entered
from torch import Tensor

PASSES = 5  # timed in a turn, after one that is not


@torch.inference_mode()
def steps(
    name: str, model: Any, ways: Sequence[str], size: int, rounds: int, clock: Clock
) -> dict[str, Any]:
    """Seconds of a step by way, cosine to the first way's result, and seconds of the first call."""
    forward = step(name, model, size)
    seconds: dict[str, list[float]] = {}
    facts: dict[str, dict[str, float]] = {}
    expected: Tensor | None = None
    for way in ways:  # compiled before any is timed
        if way != EAGER and clock.is_over:
            clock.say(f"{name} step, {way}: skipped, the time is over")
            continue
        try:
            with entered(way, model):
                first = clock.timed(forward)
                found = forward()
                settled = clock.timed(forward)
        except Skipped as reason:
            clock.say(f"{name} step, {way}: skipped, {reason}")
            continue
        except Exception as error:  # a peer's compiler may raise anything; the others go on
            clock.say(f"{name} step, {way}: failed, {first_line(error)}")
            continue
        expected = found if expected is None else expected
        seconds[way], facts[way] = [], {"first": first, "cosine": cosine(found, expected)}
        clock.say(f"{name} step, {way}: first {first:.1f} s, then {settled * 1e3:.2f} ms")
    for _ in range(rounds):
        for way in seconds:
            with entered(way, model):
                forward()
                seconds[way] += [clock.timed(forward) for _ in range(PASSES)]
    for way, own in seconds.items():
        told = f"{spread(own, 1e-3)} ms, {ratio(seconds[ways[0]], own):.2f}x of {ways[0]}"
        clock.say(f"{name} step | {way} | {told} | cosine {facts[way]['cosine']:.6f}")
    return {way: {"ms": [one * 1e3 for one in own], **facts[way]} for way, own in seconds.items()}


def cosine(found: Tensor, expected: Tensor) -> float:
    one, other = found.double().flatten(), expected.double().flatten()
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:200]


def middle(report: dict[str, Any], way: str) -> float:
    """Median seconds of a step."""
    return statistics.median(report[way]["ms"]) / 1e3

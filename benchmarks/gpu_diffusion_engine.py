"""Requests that join at random times: through the engine, and one after the other by diffusers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import torch
from gpu_diffusion_clock import Clock, ratio, spread
from gpu_diffusion_models import pipeline
from gpu_diffusion_steps import first_line
from gpu_diffusion_ways import REGIONAL, Skipped, entered

from mindsd import TextToImage
from mindsd.pipelines.parameters import ImageParameters
from mindsd.request import follow

PROMPTS = ("a red circle", "two green stars", "a blue square", "a pink heart")
PLAIN, COMPILED = "diffusers, one by one", "diffusers + compile, one by one"
WITHIN = 0.5  # all have come when so much of the time that plain drawing takes has gone by
Work = Callable[[list[float]], float]  # arrivals -> seconds from the first to the last image


def engine(
    name: str, model: Any, size: int, steps: int, requests: int, rounds: int, clock: Clock
) -> dict[str, Any]:
    """Images a second, by way: joining requests through our engine, and plain ones in turn."""
    asked = {"num_inference_steps": steps, "height": size, "width": size}
    one = clock.timed(lambda: _draw(pipeline(name, model), 0, asked))
    one = clock.timed(lambda: _draw(pipeline(name, model), 0, asked))
    spaced = random.Random(0)
    arrivals = sorted(spaced.uniform(0, WITHIN * one * requests) for _ in range(requests))
    arrivals = [own - arrivals[0] for own in arrivals]
    clock.say(f"{name} engine: {requests} images of {steps} steps within {arrivals[-1]:.1f} s")
    seconds: dict[str, list[float]] = {}
    ways = [PLAIN, COMPILED, "mindsd engine, auto", "mindsd engine, compiled"]
    for turn in range(rounds):
        for way in ways:
            if clock.is_over:
                clock.say(f"{name} engine, {way}: skipped, the time is over")
                continue
            try:
                took = _run(way, name, model, asked, arrivals, turn == 0, clock)
            except (Skipped, Exception) as error:  # the others go on
                clock.say(f"{name} engine, {way}: failed, {first_line(error)}")
                continue
            seconds.setdefault(way, []).append(took)
            clock.say(f"{name} engine, {way}: {took:.2f} s, {requests / took:.2f} images/s")
    for way, own in seconds.items():
        faster = ratio(seconds[PLAIN], own) if PLAIN in seconds else 0
        clock.say(f"{name} engine | {way} | {spread(own)} s | {faster:.2f}x of {PLAIN}")
    return {way: {"seconds": own} for way, own in seconds.items()}


def _run(
    way: str,
    name: str,
    model: Any,
    asked: dict[str, Any],
    arrivals: list[float],
    warm: bool,
    clock: Clock,
) -> float:
    """Seconds from the first arrival to the last image; before that a round to compile."""
    pipe = pipeline(name, model)
    if way in (PLAIN, COMPILED):
        with entered(REGIONAL if way == COMPILED else way, model):
            if warm:
                _draw(pipe, 0, asked)
            return clock.timed(lambda: _one_by_one(pipe, asked, arrivals))
    layers = way.rsplit(" ", 1)[1]
    with TextToImage.load(pipe, layers=layers) as draw:
        if warm:
            _joining(draw, asked, [0.0] * len(arrivals))
            _joining(draw, asked, arrivals)
        return clock.timed(lambda: _joining(draw, asked, arrivals))


@torch.no_grad()
def _draw(pipe: Any, number: int, asked: dict[str, Any]) -> None:
    generator = torch.Generator("cpu").manual_seed(number)
    pipe(PROMPTS[number % len(PROMPTS)], generator=generator, **asked)


def _one_by_one(pipe: Any, asked: dict[str, Any], arrivals: list[float]) -> None:
    began = time.perf_counter()
    for number, due in enumerate(arrivals):
        _sleep_until(began + due)
        _draw(pipe, number, asked)


def _joining(draw: TextToImage, asked: dict[str, Any], arrivals: list[float]) -> None:
    began, requests = time.perf_counter(), []
    size = {"width": asked["width"], "height": asked["height"]}
    for number, due in enumerate(arrivals):
        _sleep_until(began + due)
        wishes: dict[str, Any] = {"steps": asked["num_inference_steps"], "seed": number, **size}
        requests.append(draw.submit(ImageParameters(PROMPTS[number % len(PROMPTS)], **wishes)))
    for request, _ in follow(requests):
        if request.ended:
            request.result()  # raises what went wrong


def _sleep_until(due: float) -> None:
    if (rest := due - time.perf_counter()) > 0:
        time.sleep(rest)

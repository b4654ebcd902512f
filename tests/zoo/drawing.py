"""Draws with a zoo pipeline: by plain diffusers, or by requests on an engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from mindsd.engine import Engine, Limits
from mindsd.pipelines.modules import open_modules
from mindsd.pipelines.own import own_copy
from mindsd.request import Body, Request, Step

Asked = Mapping[str, Any]  # arguments of the pipeline's call, and "seed"


def plain(pipe: DiffusionPipeline, asked: Asked) -> torch.Tensor:
    """What diffusers itself draws, [3, H, W] in 0 to 1 (or the latents, or a video's frames)."""
    call: Any = pipe
    pipe.set_progress_bar_config(disable=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # SD3's ControlNet reads its picture with numbers that no seed rules
        return call(**_arguments(asked))[0][0]


def body(
    pipe: DiffusionPipeline, asked: Asked, then: Callable[[int], object] = lambda step: None
) -> Body:
    """The same call as the body of a request; `then` is told every step, on the engine's thread."""

    def draw(request: Request) -> torch.Tensor:
        def on_step(done: int, total: int) -> None:
            request.emit(Step(done, total, request.seconds()))
            then(done)

        mine: Any = own_copy(pipe, on_step)
        return mine(**_arguments(asked))[0][0]

    return draw


def _arguments(asked: Asked) -> dict[str, Any]:
    """Own copies: some pipelines write into the lists and dictionaries they are given."""
    given = {"output_type": "pt", **asked}
    generator = torch.Generator().manual_seed(given.pop("seed"))
    return {**given, "generator": generator, "return_dict": False}


@contextmanager
def engine_for(pipe: DiffusionPipeline, limits: Limits | None = None) -> Iterator[Engine]:
    """An engine with the pipeline's modules open to it; afterwards they are closed again."""
    wraps = open_modules(pipe.components)
    try:
        with Engine(limits) as engine:
            yield engine
    finally:
        for wrap in reversed(wraps):
            wrap.remove()


@contextmanager
def held(engine: Engine) -> Iterator[None]:
    """Whatever is submitted inside starts at the same moment, when the block ends."""
    entered, gate = threading.Event(), threading.Event()

    def block(request: Request) -> None:
        entered.set()
        gate.wait()

    engine.submit(block)
    entered.wait()
    try:
        yield
    finally:
        gate.set()


def together(
    pipe: DiffusionPipeline, asked: Sequence[Asked], limits: Limits | None = None
) -> tuple[list[torch.Tensor], dict[str, int]]:
    """All drawn at once through a fresh engine, and how many forwards of each kind it took."""
    with engine_for(pipe, limits) as engine:
        with held(engine):
            requests = [engine.submit(body(pipe, one)) for one in asked]
        images = [request.result(60) for request in requests]
        return images, engine.counts.forwards


def distance(image: torch.Tensor, reference: torch.Tensor) -> float:
    """The largest difference, relative to the reference's largest value."""
    assert image.shape == reference.shape and image.dtype == reference.dtype
    return ((image - reference).abs().max() / reference.abs().max()).item()


def levels_apart(picture: Image.Image, reference: torch.Tensor) -> int:
    """How many of the 256 levels a finished picture differs from a [3, H, W] image, at most.

    Float rounding within the tolerance can move a pixel by one level.
    """
    levels = (reference.permute(1, 2, 0).float().numpy() * 255).round().astype(int)
    assert picture.mode == "RGB" and levels.shape == (picture.height, picture.width, 3)
    return int(np.abs(np.asarray(picture).astype(int) - levels).max())

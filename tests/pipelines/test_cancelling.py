"""Hundreds of cancelled requests leave nothing behind: no request, no tensor, no memory."""

from __future__ import annotations

import gc
import random
import weakref
from collections import Counter
from typing import Any

import psutil
import pytest
import torch

from mindsd.engine import Engine
from mindsd.errors import Cancelled
from mindsd.pipelines.own import own_copy
from mindsd.request import Body, Request
from tests.zoo.cases import CASES
from tests.zoo.drawing import body, engine_for, held, plain

REQUESTS = 200
AT_ONCE = 10
STEPS = 4
SIDE = 16  # pixels
MOMENTS = ("queued", "encoding", "denoising", "decoding")
GROWTH = 8 * 2**20  # bytes of resident memory; the allocator alone moves it by 4 MiB


class Leaver:
    """Bodies that cancel themselves at random moments, and weak references to all they held."""

    def __init__(self, pipe: Any, prompt: str):
        self.pipe, self.prompt = pipe, prompt
        self.chance = random.Random(7)
        self.moments: Counter[str] = Counter()
        self.held: list[weakref.ref[Any]] = []

    def submit(self, engine: Engine) -> Request:
        moment = self.chance.choice(MOMENTS)
        self.moments[moment] += 1
        request = engine.submit(self._body(moment, self.chance.randint(1, STEPS - 1)))
        if moment == "queued":
            request.cancel()
        return request

    def _body(self, moment: str, step: int) -> Body:
        last = {"denoising": step, "decoding": STEPS}.get(moment)

        def draw(request: Request) -> Any:
            def on_step(done: int, total: int) -> None:
                if done == last:
                    request.cancel()

            mine: Any = own_copy(self.pipe, on_step)
            latents = torch.randn(1, 4, SIDE // 2, SIDE // 2)
            self.held += map(weakref.ref, (request, mine, mine.scheduler, latents))
            if moment == "encoding":
                request.cancel()
            size = {"width": SIDE, "height": SIDE}
            return mine(self.prompt, num_inference_steps=STEPS, latents=latents, **size)

        return draw


def cancel_some(leaver: Leaver, engine: Engine, count: int) -> None:
    for _ in range(count // AT_ONCE):
        with held(engine):
            requests = [leaver.submit(engine) for _ in range(AT_ONCE)]
        for request in requests:
            with pytest.raises(Cancelled):
                request.result(60)
    engine.submit(lambda request: None).result(60)  # the engine has turned to something else


def live_tensors() -> int:
    gc.collect()
    return sum(isinstance(one, torch.Tensor) for one in gc.get_objects())


def test_cancelled_requests_leave_nothing():
    pipe, asked = CASES["sd"].pipe(), CASES["sd"].asked()[0]
    reference = plain(pipe, asked)
    leaver = Leaver(pipe, asked["prompt"])
    with engine_for(pipe) as engine:
        cancel_some(leaver, engine, REQUESTS // 4)
        tensors, memory = live_tensors(), psutil.Process().memory_info().rss
        cancel_some(leaver, engine, REQUESTS)
        assert engine.load() == (0, 0)
        assert live_tensors() <= tensors
        assert [ref for ref in leaver.held if ref() is not None] == []
        assert psutil.Process().memory_info().rss - memory < GROWTH
        assert min(leaver.moments[moment] for moment in MOMENTS) > REQUESTS // 8
        assert torch.equal(engine.submit(body(pipe, asked)).result(60), reference)

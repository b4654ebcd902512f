"""Whatever runs beside a request, joins it or leaves it: its image stays the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mindsd.engine import Limits
from mindsd.errors import Cancelled
from mindsd.request import Request
from tests.zoo.cases import CASES, PROMPTS, SIDE
from tests.zoo.drawing import body, distance, engine_for, held, plain, together

TOLERANCE = 1e-5
PIPE = CASES["sd"].pipe


def asked(seed: int, steps: int, width: int = SIDE, height: int = SIDE, guidance: float = 7.5):
    return {
        "prompt": PROMPTS[seed % len(PROMPTS)],
        "seed": seed,
        "num_inference_steps": steps,
        "width": width,
        "height": height,
        "guidance_scale": guidance,
    }


def agree(images: list[torch.Tensor], requests: list[dict[str, Any]]) -> bool:
    references = [plain(PIPE(), one) for one in requests]
    return max(map(distance, images, references)) < TOLERANCE


def test_sizes_steps_and_guidance_in_one_batch():
    requests = [
        asked(1, 4),
        asked(2, 6, guidance=1.0),
        asked(3, 5, width=2 * SIDE),
        asked(4, 3, width=2 * SIDE, guidance=3.0),
        asked(5, 4, height=2 * SIDE),
        asked(6, 2, guidance=1.0),
    ]
    images, forwards = together(PIPE(), requests)
    assert agree(images, requests)
    # A forward for each step and size: guided requests and those without share them.
    assert forwards["denoise"] == 6 + 5 + 4
    assert forwards["text"] <= 2  # prompts, then the negative prompts of those that have them


def test_several_images_in_one_request():
    several = {**asked(1, 3), "num_images_per_prompt": 2}
    images, forwards = together(PIPE(), [several, asked(2, 4)])
    assert agree(images, [several, asked(2, 4)])
    assert forwards["denoise"] == 4


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_the_limit_of_rows_changes_no_image(rows: int):
    requests = [asked(1, 3), asked(2, 4, guidance=1.0), asked(3, 2)]
    images, _ = together(PIPE(), requests, Limits(rows=rows))
    assert agree(images, requests)


@pytest.mark.parametrize("step", [1, 4, 7])
def test_joining_mid_flight(step: int):
    first, second = asked(1, 12), asked(2, 4)
    joined: list[Request] = []

    def join(done: int) -> None:
        if done == step:
            joined.append(engine.submit(body(PIPE(), second)))

    with engine_for(PIPE()) as engine:
        image = engine.submit(body(PIPE(), first, join)).result(60)
        images = [image, joined[0].result(60)]
        assert engine.counts.forwards["denoise"] < 12 + 4
    assert agree(images, [first, second])


@pytest.mark.parametrize("step", [1, 3, 5])
def test_cancelling_mid_flight(step: int):
    stay = [asked(1, 6), asked(2, 4, guidance=1.0)]
    leave = asked(3, 8)

    def stop(done: int) -> None:
        if done == step:
            leaving.cancel()

    with engine_for(PIPE()) as engine:
        with held(engine):
            staying = [engine.submit(body(PIPE(), one)) for one in stay]
            leaving = engine.submit(body(PIPE(), leave, stop))
        images = [request.result(60) for request in staying]
        with pytest.raises(Cancelled):
            leaving.result(60)
        assert engine.counts.forwards["denoise"] == max(6, step)
    assert agree(images, stay)


def test_repeated_on_a_warm_engine_it_is_the_same_bits():
    request = asked(1, 4)
    reference = plain(PIPE(), request)
    with engine_for(PIPE()) as engine:

        def submit(one: dict[str, Any]) -> Request:
            return engine.submit(body(PIPE(), one))

        assert torch.equal(submit(request).result(60), reference)
        with held(engine):
            beside = [submit(one) for one in (request, asked(2, 5), asked(3, 3, width=2 * SIDE))]
        assert distance(beside[0].result(60), reference) < TOLERANCE
        assert engine.drain(60)
        assert torch.equal(submit(request).result(60), reference)


def test_equal_seeds_in_one_batch_give_equal_images():
    images, _ = together(PIPE(), [asked(1, 4), asked(1, 4), asked(2, 3)])
    assert distance(images[1], images[0]) < TOLERANCE

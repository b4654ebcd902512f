"""Ways are measured on the images that users get, each only once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mindsd.config import Acceleration
from mindsd.pipelines.measure import Measure
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.peak import Peak
from mindsd.pipelines.samples import Samples, prompt_samples, scene_samples
from mindsd.pipelines.text_to_image import TextToImage
from mindsd.pipelines.way import Way
from mindsd.quality import psnr, ssim
from tests.zoo.flux import flux
from tests.zoo.stable_diffusion import stable_diffusion

PATTERN = ImageParameters("", steps=12, guidance=3.0, width=32, height=32)
CACHED = Way(Acceleration.from_json({"step_cache": "interval:3"}))


@pytest.fixture(scope="module")
def draw():
    with TextToImage.load(stable_diffusion()) as draw:
        yield draw


def measure(draw, samples=None, **more) -> Measure:
    return Measure(draw, samples or prompt_samples(3)[0], PATTERN, **{"batch": 2, **more})


def test_scores_are_those_of_the_users_images(draw):
    samples = prompt_samples(3)[0]
    scores = measure(draw, samples).scores(CACHED, 3)
    asked: dict[str, Any] = {
        "seed": samples.seed,
        "steps": 12,
        "guidance": 3.0,
        "width": 32,
        "height": 32,
    }
    plain = draw(samples.prompts, **asked).images
    cached = draw(samples.prompts, acceleration=CACHED.acceleration, **asked).images
    pairs = list(zip(cached, plain, strict=True))
    assert scores.psnr == pytest.approx([psnr(*pair) for pair in pairs], abs=0.5)
    assert scores.ssim == pytest.approx([ssim(*pair) for pair in pairs], abs=0.01)
    assert max(scores.psnr) < 60 and scores.right is None


def test_plain_is_equal_to_itself(draw):
    scores = measure(draw).scores(Way(), 3)
    assert scores.psnr == (100, 100, 100) and scores.ssim == pytest.approx((1, 1, 1))


def test_fewer_steps_are_another_way(draw):
    scores = measure(draw).scores(Way(steps=6), 2)
    assert len(scores) == 2 and max(scores.psnr) < 60


def test_nothing_is_drawn_twice(draw):
    told = []
    own = measure(draw, told=told.append)
    own.scores(CACHED, 2)
    own.scores(CACHED, 3)
    own.scores(CACHED, 1)
    drawn = [(event.way, event.done) for event in told if event.what == "images"]
    assert drawn == [(Way(), 0), (CACHED, 0), (Way(), 2), (CACHED, 2)]
    timing = own.timing(CACHED)
    asked = len(told)
    assert own.timing(CACHED) is timing and len(told) == asked


def test_time_is_taken_in_turns(draw):
    told = []
    fewer = Way(steps=6)
    timings = measure(draw, told=told.append, rounds=2).timings([CACHED, fewer])
    assert [event.way for event in told] == [Way(), CACHED, fewer] * 2
    assert {event.total for event in told} == {2}
    assert timings[CACHED].plain == timings[fewer].plain
    assert all(len(timing.seconds) == 2 and min(timing.seconds) > 0 for timing in timings.values())


def test_rounds_that_were_whole_outlast_an_interruption(draw):
    def stop(event):
        if event.what == "rounds" and event.done == 2:
            raise KeyboardInterrupt

    own = measure(draw, told=stop)
    with pytest.raises(KeyboardInterrupt):
        own.timings([CACHED])
    assert len(own.known([CACHED, Way(steps=6)])[CACHED].seconds) == 2


def test_what_the_model_cannot_do_is_said():
    merged = Way(Acceleration.from_json({"token_merge": "0.5"}))
    with TextToImage.load(flux()) as other:
        own = measure(other)
        assert "no token merging for FluxTransformer2DModel" in (own.refuses(merged) or "")
        assert own.refuses(Way()) is None


def test_images_that_can_be_read_are():
    samples = scene_samples(2)[0]
    pattern = ImageParameters("", steps=2, guidance=3.0)
    with TextToImage.load("tiny-sd") as draw:
        scores = Measure(draw, samples, pattern).scores(Way(steps=1), 2)
    assert scores.right is not None and scores.plain_right is not None
    assert set(scores.values) == {"psnr", "ssim", "right"} and len(scores.values["right"]) == 2


def test_no_more_is_drawn_at_once_than_there_are(draw):
    assert measure(draw, Samples(("a",), 7), batch=8).batch == 1


def test_memory_of_a_way_is_what_it_took(draw):
    own = measure(draw)
    own.scores(CACHED, 2)
    with Peak("cpu") as peak:
        held = torch.from_numpy(np.ones(2**23))  # 64 MiB
    assert held.shape == (2**23,)
    if peak.bytes is None:  # only Linux tells
        assert own.peaks == {}
        return
    assert 2**26 - 2**22 <= peak.bytes < 2**27 and set(own.peaks) == {Way(), CACHED}

"""Paths beside the plain one on the simulated device: from pictures, with less work, a video, on
another device. Each is what the CPU draws.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from tests.npu.device.paths import (
    ASKED,
    PICTURES,
    PROMPTS,
    diffusers_without_npu,
    levels,
    on_cpu,
    opened,
)

DENSE = "npu_fusion_attention"
STEPS = {**ASKED, "steps": 4}


def built(name: str, device: str) -> Any:
    from tests.zoo.cases import CASES

    return CASES[name].build().to(device)


def redrawn(name: str, device: str) -> Any:
    from mindsd import ImageToImage
    from tests.zoo.cases import picture

    with ImageToImage.load(built(name, device), device=device) as own:
        shown = [picture(1), picture(2)]
        how = {"steps": 3, "seed": 7, "strength": 0.7, "options": PICTURES[name]}
        return levels(own(PROMPTS, shown, **how).images)


def repainted(name: str, device: str) -> Any:
    from mindsd import Inpaint
    from tests.zoo.cases import half_mask, picture

    with Inpaint.load(built(name, device), device=device) as own:
        return levels(own("a fox", picture(1), half_mask(), steps=3, seed=7).images)


@pytest.mark.parametrize(
    ("way", "name"), [(redrawn, "sd"), (redrawn, "flux"), (repainted, "sd"), (repainted, "sdxl")]
)
def test_from_a_picture(npu, way, name):
    with diffusers_without_npu():
        expected = way(name, "cpu")
    npu.log.clear()
    assert abs(way(name, "npu") - expected).max() <= 1
    assert DENSE in npu.log.ops()


@pytest.mark.parametrize("less", ["skip:2", "interval:2", "adaptive:0.1", "merge"])
def test_less_work(npu, less):
    """Decisions are taken from numbers of the device, and are the CPU's."""
    from mindsd.config import Acceleration
    from mindsd.pipelines.parameters import several
    from tests.zoo.drawing import held

    told = {"token_merge": "0.5"} if less == "merge" else {"step_cache": less}
    found = {}
    for device in ("cpu", "npu"):
        with diffusers_without_npu(), opened("sd", device) as own:
            wished = several(PROMPTS, **STEPS, acceleration=Acceleration.from_json(told))
            with held(own.engine):  # else the second may join a forward later
                requests = [own.submit(one) for one in wished]
            images, counts = [one.result(300) for one in requests], own.engine.counts
            found[device] = levels(images), counts.forwards["denoise"], counts.spared
    assert abs(found["npu"][0] - found["cpu"][0]).max() <= 1
    assert found["npu"][1:] == found["cpu"][1:]


def test_a_video(npu):
    from tests.zoo.cases import VARIANTS
    from tests.zoo.drawing import body, engine_for

    films = []
    for device in ("cpu", "npu"):
        pipe = VARIANTS["wan"].build().to(device)
        asked = {**VARIANTS["wan"].asked()[0], "num_inference_steps": 2}
        with diffusers_without_npu(), engine_for(pipe) as engine:
            films.append(engine.submit(body(pipe, asked)).result(120).float().cpu().numpy())
    assert np.abs(films[1] - films[0]).max() <= 1e-3


def test_on_the_second_device(npu):
    """A pipeline stays where it is; the first device holds nothing of it."""
    runtime = torch.get_device_module("npu")
    held = runtime.memory_allocated(0)
    with opened("sd", "npu:1") as own:
        assert runtime.memory_allocated(1) > 2**20
        npu.log.clear()
        images = levels(own(PROMPTS, **ASKED).images)
        assert Counter(npu.log.ops())[DENSE] and own.model.attached.calls
    assert abs(images - on_cpu("sd")).max() <= 1
    assert runtime.memory_allocated(0) - held < 2**20

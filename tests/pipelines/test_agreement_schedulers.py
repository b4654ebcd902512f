"""Every scheduler draws through the engine what it draws without, other step counts beside it."""

from __future__ import annotations

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline

from tests.zoo.cases import CASES
from tests.zoo.drawing import distance, plain, together

TOLERANCE = 1e-5
NOISE_PREDICTING = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
]
FLOW_MATCHING = ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"]
TABLE = [("sd", name) for name in NOISE_PREDICTING] + [("sd3", name) for name in FLOW_MATCHING]


def with_scheduler(family: str, name: str) -> DiffusionPipeline:
    pipe = CASES[family].pipe()
    scheduler = getattr(diffusers, name)()
    return type(pipe)(**{**pipe.components, "scheduler": scheduler})


@pytest.mark.parametrize(("family", "name"), TABLE, ids=[name for _, name in TABLE])
def test_scheduler(family: str, name: str):
    pipe = with_scheduler(family, name)
    asked = [
        {**one, "num_inference_steps": steps}
        for one, steps in zip(CASES[family].asked(), (4, 5, 6), strict=True)
    ]
    references = [plain(pipe, one) for one in asked]
    (longest,), alone = together(pipe, asked[-1:])
    assert torch.equal(longest, references[-1])
    images, forwards = together(pipe, asked)
    assert max(map(distance, images, references)) < TOLERANCE
    assert forwards["denoise"] == alone["denoise"]

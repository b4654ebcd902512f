"""A ControlNet that falls silent or speaks again on the way: the step at which it does runs whole.

diffusers silences it by the factor 0; the denoiser's call looks as always.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mindsd import TextToImage
from mindsd.config import Acceleration
from mindsd.pipelines import accelerate as accelerating
from mindsd.pipelines.accelerate import accelerate
from mindsd.pipelines.parameters import ImageParameters
from mindsd.stepcache.plan import StepCache
from tests.zoo.cases import CASES, SIDE, VARIANTS
from tests.zoo.drawing import distance, levels_apart, plain

FAMILIES = {
    "sd": CASES["sd controlnet"],
    "flux": VARIANTS["flux controlnet"],
    "sd3": VARIANTS["sd3 controlnet"],
}
STEPS = 10
ENDS, STARTS = {"control_guidance_end": 0.5}, {"control_guidance_start": 0.5}
ONLY_THAT = "plan:1111101111"  # the first step on the other side would be the only shallow one
THAT_AND_NEXT = "plan:1111100111"
STRONG = {"controlnet_conditioning_scale": 10.0}  # a factor that shows in a tiny model's image


def asked(family: str, **more: Any) -> dict[str, Any]:
    return {**FAMILIES[family].asked()[0], "num_inference_steps": STEPS, **STRONG, **more}


def cache(text: str) -> Acceleration:
    return Acceleration(StepCache.parse(text + ",least=1"))


def drawn(family: str, text: str, **more: Any) -> torch.Tensor:
    pipe = FAMILIES[family].pipe()
    with accelerate(pipe, cache(text)):
        return plain(pipe, asked(family, **more))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("turn", [ENDS, STARTS], ids=["ends", "starts"])
def test_the_step_where_it_turns_is_whole(
    family: str, turn: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    reference = plain(FAMILIES[family].pipe(), asked(family, **turn))
    assert torch.equal(drawn(family, ONLY_THAT, **turn), reference)
    near = distance(drawn(family, THAT_AND_NEXT, **turn), reference)
    monkeypatch.setattr(accelerating, "find_advisers", lambda components: {})
    blind = drawn(family, ONLY_THAT, **turn)
    assert not torch.equal(blind, reference)
    assert distance(drawn(family, THAT_AND_NEXT, **turn), reference) > 2 * near > 0


def test_while_it_does_not_turn_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch):
    image = drawn("sd", ONLY_THAT)
    assert not torch.equal(image, plain(FAMILIES["sd"].pipe(), asked("sd")))
    monkeypatch.setattr(accelerating, "find_advisers", lambda components: {})
    assert torch.equal(drawn("sd", ONLY_THAT), image)


def test_a_draw_does_not_remember_how_the_last_one_ended():
    pipe = FAMILIES["sd"].pipe()
    with accelerate(pipe, cache(THAT_AND_NEXT)):
        first = plain(pipe, asked("sd", **ENDS))
        assert torch.equal(plain(pipe, asked("sd", **ENDS)), first)
    assert all("forward" not in vars(part) for part in pipe.components["controlnet"].modules())


def test_through_the_engine_each_request_turns_at_its_own_step():
    case = FAMILIES["sd"]
    one = asked("sd", **ENDS)
    common = {"steps": STEPS, "seed": one["seed"], "width": SIDE, "height": SIDE}
    with TextToImage.load(case.pipe(), device="cpu") as model:
        requests = [
            model.submit(
                ImageParameters(
                    one["prompt"],
                    acceleration=cache(ONLY_THAT),
                    options={"image": one["image"], **STRONG, **turn},
                    **common,
                )
            )
            for turn in (ENDS, {})
        ]
        images = [request.result(60) for request in requests]
    assert levels_apart(images[0], plain(case.pipe(), one)) <= 1
    assert levels_apart(images[1], drawn("sd", ONLY_THAT)) <= 1

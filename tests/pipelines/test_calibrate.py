"""A loaded model's own plans are plans that it can draw with."""

from types import SimpleNamespace

import pytest

from mindsd import TextToImage
from mindsd.config import Acceleration
from mindsd.pipelines.calibrate import calibrate
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.samples import Samples
from tests.zoo.cases import CASES, SIDE

STEPS = 13


@pytest.mark.parametrize("scheduler", [None, "HeunDiscreteScheduler"])
def test_every_plan_draws_and_computes_what_it_says(scheduler):
    told = []
    pattern = ImageParameters("", steps=STEPS, width=SIDE, height=SIDE, scheduler=scheduler)
    with TextToImage.load(CASES["sd"].pipe()) as draw:
        plans = calibrate(draw, Samples(("a cat", "a dog"), 3), pattern, told.append)
        assert [(event.done, event.total) for event in told] == [(0, 2), (1, 2)]
        assert max(plans) == STEPS and min(plans) < 5
        plan = plans[6]
        before = draw.engine.counts.rows.get("denoise", 0)
        draw(
            "a cat",
            steps=STEPS,
            width=SIDE,
            height=SIDE,
            scheduler=scheduler,
            seed=1,
            acceleration=Acceleration(plan),
        )
        rows = draw.engine.counts.rows["denoise"] - before
    calls = 6 if scheduler is None else 2 * 6 - 1  # the last step of Heun is one call
    assert rows == 2 * calls


def test_a_flow_has_plans_too():
    pattern = ImageParameters(
        "", steps=STEPS, width=SIDE, height=SIDE, options={"max_sequence_length": 16}
    )
    with TextToImage.load(CASES["sd3"].pipe()) as draw:
        assert set(calibrate(draw, Samples(("a cat",), 3), pattern)) >= {6, 7, STEPS}


def test_a_model_without_scheduler_has_none():
    with TextToImage.load(CASES["sd"].pipe()) as draw:
        draw.pipe = SimpleNamespace()  # pyright: ignore[reportAttributeAccessIssue]
        assert calibrate(draw, Samples(("a cat",), 3), ImageParameters("", steps=STEPS)) == {}

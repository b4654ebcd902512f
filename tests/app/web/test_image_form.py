"""The image form takes what the API takes, and says in one sentence what it does not take."""

from __future__ import annotations

import pytest

from mindsd.app.picture_record import Record
from mindsd.app.server.image_bodies import ImageBody
from mindsd.app.server.refusal import Refusal
from mindsd.app.web.image_form import OWN, body_of, form_of
from mindsd.config import speed_named
from mindsd.pipelines.parameters import ImageParameters

FORM = {
    "prompt": "a fox",
    "negative_prompt": "blur",
    "model": "draws",
    "speed": "balanced",
    "size": "512x384",
    "n": "2",
    "steps": "30",
    "guidance": "7.5",
    "seed": "9007199254740993",
    "scheduler": "DPM++ 2M Karras",
    "weighted": True,
    "strength": None,
    "loras": {"ink": 0.8},
}


def test_it_asks_for_what_the_api_would():
    told = {name: own for name, own in FORM.items() if own is not None}
    numbers = {"n": 2, "steps": 30, "guidance": 7.5, "seed": 9007199254740993}
    api = ImageBody.model_validate(told | numbers)
    assert body_of(FORM).asked() == api.asked()


def test_what_is_empty_is_left_to_the_model():
    body = body_of({"prompt": "a", "scheduler": OWN, "steps": "", "guidance": "", "loras": {}})
    said = body.model_dump(exclude_none=True, exclude={"stream", "partial_images"})
    assert said == {"prompt": "a"}
    assert body_of({"prompt": OWN}).prompt == OWN


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("steps", str(10**19), "steps: .*1000"),
        ("steps", "0", "steps: write a whole number, 1 to 1000, or leave it empty"),
        ("steps", str(10**30), "steps: write a whole number"),
        ("n", "11", "images: .*10"),
        ("guidance", "1000", "guidance: .*100"),
        ("seed", str(2**64), "seed: .*9223372036854775807"),
        ("steps", "-3", "steps: write a whole number, 1 to 1000, or leave it empty"),
        ("guidance", "-1", "guidance: write a number, 0 to 100, or leave it empty"),
        ("seed", "-2", f"seed: write a whole number, 0 to {2**63 - 1}, or -1 for any"),
        ("size", "512", "size: it should be WIDTHxHEIGHT"),
        ("size", "9999x9999", "size: a side has at most 4096"),
        ("prompt", "a" * 2_000_000, "prompt: .*10000"),
        ("negative_prompt", "a" * 10_001, "negative prompt: .*10000"),
        ("model", "../../etc/passwd", "model: "),
        ("scheduler", "x" * 201, "sampler: .*200"),
        ("loras", {"ink": 99.0}, "LoRA: .*10"),
        ("loras", {"../ink": 1.0}, "LoRA: "),
        ("strength", 1.5, "strength: .*1"),
        ("output", "/etc", "output: "),
    ],
)
def test_what_is_wrong_is_refused_in_a_short_sentence(field, value, said):
    with pytest.raises(Refusal, match=said) as refused:
        body_of({**FORM, field: value})
    assert refused.value.status == 400 and len(refused.value.message) < 200


def test_a_pictures_settings_ask_for_the_same_picture_again():
    whole = body_of(FORM).asked()[0]
    form = form_of(Record(whole, "draws"))
    assert body_of(form).asked() == [whole]
    assert form["scheduler"] == "DPM++ 2M Karras" and form["seed"] == FORM["seed"]


def test_what_a_picture_does_not_say_stays_open():
    form = form_of(Record(ImageParameters("a", seed=3)))
    assert body_of({**form, "model": None}).asked()[0] == ImageParameters("a", seed=3)
    assert form["size"] == "auto" and form["scheduler"] == OWN and form["steps"] == ""


@pytest.mark.parametrize("flow", [False, True])
def test_a_record_s_plan_is_the_speed_that_it_came_from(flow: bool):
    less = speed_named("fast").settled(flow=flow)
    form = form_of(Record(ImageParameters("a", acceleration=less)))
    assert form["speed"] == "fast" and body_of(form).acceleration == speed_named("fast")

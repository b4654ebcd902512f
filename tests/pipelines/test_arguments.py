"""A model folder's own choices stand where a request says nothing, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mindsd import ImageToImage, TextToImage
from mindsd.config import speed_named
from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.arguments import Arguments
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters
from mindsd.weights.defaults import DEFAULTS
from tests.zoo.cases import CASES, SIDE, picture
from tests.zoo.drawing import levels_apart, plain
from tests.zoo.stable_diffusion import stable_diffusion

OWN = {"steps": 2, "guidance": 2.5, "options": {"max_sequence_length": 8, "clip_skip": 1}}


def write(folder: Path, **said: object) -> Path:
    CASES["sd3"].pipe().save_pretrained(folder)
    (folder / DEFAULTS).write_text(json.dumps(said))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sd3"), **OWN)


def test_defaults_are_the_call(folder: Path):
    with TextToImage.load(folder, device="cpu", dtype="float32") as draw:
        drawn = draw("a cat", seed=3, width=SIDE).images[0]
    size = {"width": SIDE, "height": SIDE}
    call = {"num_inference_steps": 2, "guidance_scale": 2.5, "max_sequence_length": 8}
    asked = {"prompt": "a cat", "seed": 3, "clip_skip": 1, **size, **call}
    assert levels_apart(drawn, plain(load_model(folder, "cpu", "float32").pipe, asked)) == 0


def test_a_request_has_the_last_word(folder: Path):
    with TextToImage.load(folder, device="cpu", dtype="float32") as draw:
        asked = ImageParameters("a cat", steps=1, guidance=0.0, options={"clip_skip": 0})
        whole = draw.complete(asked)
        assert (whole.steps, whole.guidance) == (1, 0.0)
        assert whole.options == {"max_sequence_length": 8, "clip_skip": 0}
        assert asked.options == {"clip_skip": 0}


def test_other_pipelines_of_the_folder_take_what_they_know(folder: Path):
    with ImageToImage.load(folder, device="cpu", dtype="float32") as draw:
        whole = draw.complete(ImageParameters("a cat"), picture(1))
        assert (whole.steps, whole.guidance) == (2, 2.5)
        assert whole.options["max_sequence_length"] == 8


def test_a_pipeline_in_memory_has_none():
    with TextToImage.load(CASES["sd3"].pipe(), device="cpu") as draw:
        whole = draw.complete(ImageParameters("a cat"))
    assert (whole.steps, whole.guidance, whole.options) == (None, None, {})


@pytest.mark.parametrize("name", ["colour", "output_type", "num_inference_steps"])
def test_options_that_the_pipeline_cannot_have(tmp_path: Path, name: str):
    folder = write(tmp_path, options={name: 1})
    with pytest.raises(ModelError, match=rf"{DEFAULTS} sets options .* does not take.*: {name}"):
        load_model(folder, "cpu")


def test_more_steps_than_the_model_knows_are_refused():
    pipe = stable_diffusion()
    asked = Arguments(pipe, "thin")
    assert pipe.scheduler.config.steps_offset == 1
    assert asked.of(ImageParameters("a", steps=999))["num_inference_steps"] == 999
    with pytest.raises(RequestError, match="at most 999 steps, got 1000"):
        asked.of(ImageParameters("a", steps=1000))


@pytest.mark.parametrize(("family", "flow"), [("sd", False), ("sd3", True), ("flux", True)])
def test_a_speed_is_the_plan_for_the_model_s_kind(family: str, flow: bool):
    with TextToImage.load(CASES[family].pipe(), device="cpu") as draw:
        asked = ImageParameters("a cat", steps=20, acceleration=speed_named("fast"))
        whole = draw.complete(asked)
        assert whole.acceleration == asked.acceleration.settled(flow=flow) != asked.acceleration
        assert draw.complete(whole).acceleration == whole.acceleration  # a record, drawn again

"""The embedded model: small, safe files, loadable with stock diffusers, the same on every run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import mindsd.assets
from mindsd.assets.recipes.assemble import CALL
from mindsd.assets.recipes.checker import read_picture
from mindsd.weights.defaults import CallDefaults
from mindsd.weights.folder import find_model

FOLDER = Path(mindsd.assets.__file__).parent / "tiny-sd"
MEGABYTE = 1_000_000
PROMPT = "a red circle on a blue background"


@pytest.fixture(scope="module")
def pipeline():
    found = StableDiffusionPipeline.from_pretrained(FOLDER, dtype=torch.float32)
    found.set_progress_bar_config(disable=True)
    return found


def draw(pipeline: StableDiffusionPipeline, seed: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    pictures = pipeline(PROMPT, num_inference_steps=10, generator=generator, output_type="np")
    return np.asarray(pictures[0][0])


def test_the_folder_is_small():
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    assert size < 40 * MEGABYTE


def test_the_folder_holds_no_code():
    kinds = {path.suffix for path in FOLDER.rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".txt", ".md"}


def test_it_draws_128_pixels_without_safety_checker(pipeline):
    assert draw(pipeline, seed=0).shape == (128, 128, 3)
    assert pipeline.safety_checker is None


def test_the_same_seed_draws_the_same_picture(pipeline):
    first, again, other = (draw(pipeline, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_it_obeys_background_and_color(pipeline):
    reading = read_picture((draw(pipeline, seed=3) * 255).round().astype(np.uint8))
    assert reading.background == "blue"
    assert [thing.color for thing in reading.things] == ["red"]


def test_it_draws_as_its_card_was_measured():
    assert find_model("tiny-sd").defaults == CallDefaults(**CALL)
    card = (FOLDER / "README.md").read_text()
    assert "\n{steps} steps, guidance {guidance}\n".format(**CALL) in card

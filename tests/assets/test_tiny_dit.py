"""The embedded transformer: small, safe files, loadable with stock diffusers, and it obeys."""

# diffusers annotates less than it takes and returns.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline

import mindsd.assets
from mindsd import TextToImage
from mindsd.assets.recipes.checker import read_picture
from mindsd.weights.folder import find_model

FOLDER = Path(mindsd.assets.__file__).parent / "tiny-dit"
MEGABYTE = 1_000_000
PROMPT = "a red circle on a blue background"


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    with TextToImage.load("tiny-dit", device="cpu") as draw:
        return np.asarray(draw(PROMPT, steps=10, seed=3).images[0])


def test_the_folder_is_small_and_holds_no_code():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 21 * MEGABYTE
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".md"}


def test_no_path_of_the_machine_it_was_made_on_is_left():
    assert not [path for path in FOLDER.rglob("*.json") if '_path": "/' in path.read_text()]


def test_the_stock_pipeline_draws_the_same(drawn: np.ndarray):
    absent = {"text_encoder_3": None, "tokenizer_3": None}
    pipe = StableDiffusion3Pipeline.from_pretrained(FOLDER, dtype=torch.float32, **absent)
    own = find_model("tiny-dit").defaults
    generator = torch.Generator().manual_seed(3)
    pictures = pipe(
        PROMPT,
        num_inference_steps=10,
        guidance_scale=own.guidance,
        generator=generator,
        **own.options,
    ).images
    apart = np.abs(np.asarray(pictures[0], int) - drawn.astype(int))
    assert apart.max() <= 1


def test_it_obeys_background_and_color(drawn: np.ndarray):
    reading = read_picture(drawn)
    assert reading.background == "blue"
    assert [thing.color for thing in reading.things] == ["red"]

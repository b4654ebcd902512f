"""The embedded eyes: small, safe files, loadable with stock transformers, and they see."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mindsd.assets
from mindsd import VisionChat
from mindsd.assets.recipes.evaluate import held_out_scenes
from mindsd.assets.recipes.questions import questions
from mindsd.assets.recipes.renderer import render
from mindsd.assets.recipes.vlm_evaluate import Answerer

FOLDER = Path(mindsd.assets.__file__).parent / "tiny-vlm"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def look():
    with VisionChat.load("tiny-vlm", device="cpu", dtype="float32") as own:
        yield own


@pytest.fixture(scope="module")
def asked() -> list[tuple[np.ndarray, str, str]]:
    """Pictures of held-out scenes with a question and its answer."""
    found = []
    for number, scene in enumerate(held_out_scenes(12)):
        rng = random.Random(number)
        picture = render(scene, rng)
        for question in rng.sample(questions(scene, rng, plain=True), 3):
            found.append((picture, question.text, question.answer))
    return found


def test_the_folder_is_small_and_holds_no_code():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 12 * MEGABYTE
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".md"}


def test_it_is_right_about_pictures_that_training_never_saw(look, asked):
    answers = [
        request.result()[0].text
        for request in [
            look.submit(
                [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "image": Image.fromarray(picture)},
                            {"type": "text", "text": text},
                        ],
                    }
                ],
                temperature=0,
            )
            for picture, text, _ in asked
        ]
    ]
    right = [said == answer for said, (_, _, answer) in zip(answers, asked, strict=True)]
    assert np.mean(right) >= 0.85


def test_the_stock_classes_say_the_same(look, asked):
    stock = Answerer.load(FOLDER)
    for picture, text, _ in asked[::6]:
        [expected] = stock.answer(picture, [text])
        assert look.ask(Image.fromarray(picture), text).text == expected


def test_a_second_question_pays_neither_tower_nor_prefix(look, asked):
    picture = Image.fromarray(asked[0][0])
    look.ask(picture, "What color is the background?")
    before = look.model.vision.cache.counts
    again = look.ask(picture, "How many things are there?")
    after = look.model.vision.cache.counts
    assert again.usage.cached >= 64 and after["hits"] == before["hits"] + 1
    assert after["misses"] == before["misses"]

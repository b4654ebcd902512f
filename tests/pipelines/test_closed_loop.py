"""A closed loop on one engine: pictures are drawn, and read while the next ones are drawn."""

from __future__ import annotations

import random
from math import inf
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindsd.assets.recipes.captions import caption
from mindsd.assets.recipes.evaluate import held_out_scenes
from mindsd.engine import Engine
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.language_model import LanguageModel, in_memory, load_language
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.text_result import TextResult
from mindsd.pipelines.text_to_image import TextToImage
from mindsd.pipelines.vision_chat import VisionChat, shown
from mindsd.request import Done, Request, follow
from mindsd.weights.embedded import embedded_language
from tests.zoo.vision import vision_case

PROMPTS, STEPS, TOKENS = 12, 3, 6
QUESTIONS = ("What color is the background?", "How many things are there?", "Describe the image.")
ROUNDING = 1e-3  # of logarithms of probabilities, from one batch to another

Answers = dict[tuple[int, str], TextResult]


def reader() -> LanguageModel:
    """tiny-vlm where it is there, else a model of random weights."""
    cache = CacheOptions(memory=8 * 2**20)
    if "tiny-vlm" in embedded_language():
        return load_language("tiny-vlm", "cpu", "float32", cache)
    case = vision_case("qwen3_vl")
    return in_memory(case.model, case.tokenizer, case.processor, cache)


def ask(chat: VisionChat, picture: Image.Image, question: str) -> Request:
    how: dict[str, Any] = {"temperature": 0, "max_tokens": TOKENS, "logprobs": 20}
    return chat.submit([shown(picture, question)], ignore_eos=True, **how)


def loop(order: list[int]) -> tuple[dict[int, Image.Image], Answers, dict[str, int]]:
    """Every prompt drawn and every picture asked about as soon as it is there, on one engine."""
    scenes = held_out_scenes(PROMPTS)
    pictures: dict[int, Image.Image] = {}
    asked: dict[tuple[int, str], Request] = {}
    with (
        Engine() as engine,
        TextToImage(load_model("tiny-sd", "cpu"), engine) as draw,
        VisionChat(reader(), engine) as chat,
    ):
        drawn = {
            draw.submit(
                ImageParameters(caption(scenes[number]), steps=STEPS + number % 3, seed=number)
            ): number
            for number in order
        }
        for request, event in follow(list(drawn)):
            if isinstance(event, Done):
                number = drawn[request]
                pictures[number] = event.result
                for question in QUESTIONS:
                    asked[number, question] = ask(chat, event.result, question)
        answers = {key: request.result()[0] for key, request in asked.items()}
        return pictures, answers, dict(engine.counts.forwards)


@pytest.fixture(scope="module")
def first() -> tuple[dict[int, Image.Image], Answers, dict[str, int]]:
    return loop(list(range(PROMPTS)))


@pytest.fixture(scope="module")
def alone(first) -> Answers:
    """What a model with an engine of its own answers, asked one question after the other."""
    with VisionChat(reader()) as chat:
        return {
            (number, question): ask(chat, picture, question).result()[0]
            for number, picture in first[0].items()
            for question in QUESTIONS
        }


def apart(one: TextResult, other: TextResult) -> float:
    """How far the probabilities of the likeliest tokens are from each other.

    Those that both name are compared: even where both are sure of the same answer, what else it
    might have been is not equally likely for two pictures.
    """
    assert one.logprobs is not None and other.logprobs is not None
    most = 0.0
    for left, right in zip(one.logprobs, other.logprobs, strict=True):
        named = dict(right.top)
        shared = [abs(own - named[token]) for token, own in left.top if token in named]
        most = max(most, *shared) if shared else inf
    return most


def test_every_picture_is_drawn_and_every_answer_arrives(first):
    pictures, answers, forwards = first
    assert sorted(pictures) == list(range(PROMPTS))
    assert len(answers) == PROMPTS * len(QUESTIONS)
    assert all(len(answer.tokens) == TOKENS for answer in answers.values())
    assert forwards["denoise"] < PROMPTS * STEPS  # drawn together
    assert forwards["image"] <= PROMPTS  # each seen once, several in one forward


def test_answers_are_those_of_the_model_alone(first, alone):
    for key, answer in first[1].items():
        assert answer.tokens == alone[key].tokens and answer.text == alone[key].text
        assert apart(answer, alone[key]) < ROUNDING


def test_no_answer_could_be_about_another_picture(first, alone):
    for (number, question), answer in first[1].items():
        for other in set(range(PROMPTS)) - {number}:
            theirs = alone[other, question]
            assert answer.tokens != theirs.tokens or apart(answer, theirs) > ROUNDING


def test_in_another_order_everything_is_the_same(first):
    order = list(range(PROMPTS))
    random.Random(1).shuffle(order)
    pictures, answers, _ = loop(order)
    for number, picture in pictures.items():
        away = np.abs(np.asarray(picture, int) - np.asarray(first[0][number], int)).max()
        assert away <= 1  # of 255: rounding in other batches
    assert all(answer.tokens == first[1][key].tokens for key, answer in answers.items())

"""The closed loop: questions about drawn pictures have their answers, and the table is made."""

from __future__ import annotations

import importlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from mindsd.assets.recipes.checker import Reading, Seen, read_picture
from mindsd.assets.recipes.evaluate import held_out_scenes
from mindsd.assets.recipes.renderer import render
from mindsd.assets.recipes.scenes import Scene, Thing
from tests.zoo.vision import vision_case

FOLDER = Path(__file__).parents[2] / "benchmarks"
PAIR = Scene(
    *("relation", "white", True),
    (Thing("star", "red", "regular", 34, 64, 40), Thing("star", "blue", "regular", 94, 64, 40)),
    relation="left of",
)


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("closed_loop_questions")


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("closed_loop")


def read_of(scene: Scene) -> Reading:
    things = [Seen(t.shape, t.color, t.x, t.y, t.extent, 1.0) for t in scene.things]
    return Reading(scene.background, tuple(things))


def test_of_a_right_picture_prompt_and_checker_say_the_same(questions):
    kinds = set()
    for seed, scene in enumerate(held_out_scenes(40)):
        reading = read_picture(render(scene, random.Random(seed)))
        for own in questions.ask_about(scene, reading):
            kinds.add(own.kind)
            assert own.seen is not None and own.wanted in (None, own.seen), (scene, own)
    assert kinds == set(questions.KINDS)


def test_of_a_wrong_picture_they_do_not(questions):
    asked = {own.kind: own for own in questions.ask_about(PAIR, read_of(PAIR))}
    assert asked["relation"].text == "What is left of the blue star?"
    assert asked["relation"].wanted == asked["relation"].seen == "a red star"
    assert "color" not in asked  # nothing but their colours tells the stars apart
    asked = {own.kind: own for own in questions.ask_about(PAIR, Reading("black", ()))}
    told = {kind: (own.wanted, own.seen) for kind, own in asked.items()}
    assert told["background"] == ("white", "black")
    assert told["count"] == ("two", "zero")
    assert told["relation"] == ("a red star", None)
    assert "caption" not in told
    mirrored = tuple(replace(own, x=128 - own.x) for own in PAIR.things)
    reading = read_of(replace(PAIR, things=mirrored))
    asked = {own.kind: own for own in questions.ask_about(PAIR, reading)}
    assert asked["relation"].seen == "nothing"


def test_more_things_than_there_are_words_for(questions):
    many = Reading("white", read_of(PAIR).things * 3)
    asked = {own.kind: own for own in questions.ask_about(PAIR, many)}
    assert asked["count"].seen == "more" and asked["relation"].seen is None
    assert "caption" not in asked


def test_a_tally_counts_what_is_named(loop, questions):
    asked = [
        questions.Question("count", "?", "two", "three"),
        questions.Question("relation", "?", "a star", None),
        questions.Question("caption", "?", None, "a star"),
    ]
    tally = loop.Tally()
    tally.take(False, asked, ["two", "a star", "a heart"])
    tally.take(False, asked, ["three", "a star", "a star"])
    assert tally.by_model == [True, False] and tally.same_verdict == [False, True]
    assert tally.agreed["count"] == [False, True] and tally.agreed["caption"] == [False, True]
    assert tally.agreed["relation"] == []


def test_every_way_is_a_row(loop, monkeypatch, capsys, tmp_path):
    case = vision_case("qwen3_vl")
    for part in (case.model, case.tokenizer, case.processor.image_processor):
        part.save_pretrained(tmp_path)
    options = ["--model", str(tmp_path), "--prompts", "2", "--steps", "2", "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["closed_loop.py", *options])
    assert loop.main() == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ") for line in lines[2:]}
    assert list(rows) == list(loop.WAYS)
    assert all(len(row) == len(lines[0].split(" | ")) for row in rows.values())
    assert rows["rendered"][1:3] == ["-", "1.000"] and float(rows["fast"][1]) > 0
    assert rows["image_merge 0.5"][1:3] == rows["plain"][1:3]  # the same pictures, drawn once


def test_wrong_options_are_said(loop, monkeypatch, capsys):
    for given, said in (
        (["--ways", "plain,oil"], "unknown way 'oil'; choose some of rendered, plain"),
        (["--prompts", "0"], "prompts are 1 to 1000, not 0"),
    ):
        monkeypatch.setattr("sys.argv", ["closed_loop.py", *given])
        with pytest.raises(SystemExit):
            loop.main()
        assert said in capsys.readouterr().err

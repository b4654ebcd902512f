from __future__ import annotations

import time

import pytest

from mindsd.app.runs.wildcards import Wildcards
from mindsd.errors import RequestError

PLAIN = Wildcards()


@pytest.fixture
def named(tmp_path) -> Wildcards:
    (tmp_path / "colour.txt").write_text("red\nblue\n# a comment\n{dark|light} green\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "shape.txt").write_text("circle\n")
    (tmp_path / "endless.txt").write_text("__endless__ again\n")
    return Wildcards(tmp_path)


@pytest.mark.parametrize(
    "prompt",
    [
        "a fox",
        '{"a": 1, "b": [2]}',
        "{a} and {} and }{",
        "{a|b",
        "a|b}",
        "# 1 fan of http://x /* y */ // z",
        "$5, ${x}, ${x=y}, 100%{a}, $$",
        "__colour and a_b__c",
        "(red:1.2) [blue] BREAK <lora:x:0.8>",
        "  two  spaces \n and a line ",
        "\\ and \\n",
    ],
)
def test_what_is_no_choice_stays_as_it_is(prompt):
    assert PLAIN.pick(prompt, 1) == prompt
    assert PLAIN.all(prompt) == [prompt]


def test_signs_can_be_meant_literally():
    assert PLAIN.all(r"\{a\|b\} {c|d}") == ["{a|b} c", "{a|b} d"]


def test_a_pick_is_the_seeds():
    prompt = "a {red|blue|green} {fox|dog} # {1|2} (x:1.{1|2}) $5"
    picks = [PLAIN.pick(prompt, seed) for seed in range(40)]
    assert picks == [PLAIN.pick(prompt, seed) for seed in range(40)]
    assert set(picks) <= set(PLAIN.all(prompt)) and len(set(picks)) > 12


def test_all_combinations_in_order():
    assert PLAIN.all("{a|{b|c}} {2$$ and $$x|y}") == [
        "a x and y",
        "a y and x",
        "b x and y",
        "b y and x",
        "c x and y",
        "c y and x",
    ]
    assert PLAIN.all('{"k": "{red|blue}"}') == ['{"k": "red"}', '{"k": "blue"}']


def test_names_are_of_the_folders_files(named):
    assert sorted(named.all("a __colour__ __deep/shape__, a_b")) == [
        "a blue circle, a_b",
        "a dark green circle, a_b",
        "a light green circle, a_b",
        "a red circle, a_b",
    ]
    assert named.pick("__colour__", 3) == named.pick("__colour__", 3)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("__color__", "there is no wildcard color in .*; did you mean colour"),
        ("__zzz__", "there is no wildcard zzz in .*; it has colour, deep/shape, endless"),
        ("__endless__", r"its choices cannot be read \(RecursionError\)"),
        ("{a|b}" * 14, "over 10000 combinations"),
        ("{a|b} " + "x" * 10_000, "has 10000 characters at most"),
        ("{a|" * 8 + "b" + "}" * 8, "6 deep"),
    ],
)
def test_what_cannot_be_chosen_is_refused(named, prompt, reason):
    with pytest.raises(RequestError, match=reason):
        named.all(prompt)


def test_a_name_without_a_folder_is_refused_and_not_drawn():
    with pytest.raises(RequestError, match="__my/colour__ .* say --wildcards FOLDER, or --no-wi"):
        PLAIN.pick("a __my/colour__ fox", 1)


def test_deep_braces_take_no_time():
    began = time.perf_counter()
    PLAIN.pick("{a|" * 6 + "b" + "}" * 6, 1)
    assert PLAIN.pick("{" * 5000, 1) == "{" * 5000
    assert time.perf_counter() - began < 20


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(RequestError, match="is not a folder"):
        Wildcards(tmp_path / "none")

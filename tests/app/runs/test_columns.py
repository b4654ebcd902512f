from __future__ import annotations

from dataclasses import fields

import pytest

from mindsd.app.runs.columns import column_named, columns, read_cell, read_value
from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters


def test_every_parameter_of_an_image_is_a_column():
    names = {own.name for own in fields(ImageParameters)} - {"acceleration"}
    assert names | {"n", "model", "size", "speed", "step_cache", "image", "mask"} <= set(columns())
    assert not {"device", "dtype", "repeats", "format"} & set(columns())


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Negative Prompt", "negative_prompt"),
        ("negative", "negative_prompt"),
        ("CFG scale", "guidance"),
        ("step-cache", "step_cache"),
        (" seed ", "seed"),
    ],
)
def test_columns_have_other_names(said, meant):
    assert column_named(said) == meant


def test_a_strange_column_is_told_the_nearest():
    with pytest.raises(RequestError, match="unknown column 'promt'; did you mean prompt"):
        column_named("promt")
    with pytest.raises(RequestError, match="unknown column 'zzz'; there are prompt, n, model"):
        column_named("zzz")


def test_cells_become_what_their_column_holds():
    cells = {"steps": " 12 ", "guidance": "2", "prompt": " a ", "model": " tiny-sd ", "n": ""}
    cells |= {"options": '{"eta": 0.5}', "weighted": "True", "token_merge": "0.5"}
    assert {name: read_cell(name, text) for name, text in cells.items()} == {
        "steps": 12,
        "guidance": 2.0,
        "prompt": " a ",
        "model": "tiny-sd",
        "n": None,
        "options": {"eta": 0.5},
        "weighted": True,
        "token_merge": "0.5",
    }


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("steps", "1.5", "column steps: '1.5' is not a whole number"),
        ("steps", "9" * 5000, "is not a whole number"),
        ("strength", "half", "column strength: 'half' is not a number"),
        ("weighted", "maybe", "column weighted: 'maybe' is not true or false"),
        ("options", "{", "column options: '{' is not JSON"),
    ],
)
def test_a_wrong_cell_is_refused(name, text, reason):
    with pytest.raises(RequestError) as caught:
        read_cell(name, text)
    assert reason in str(caught.value)


def test_values_of_json_stay_what_they_are():
    assert read_value("steps", "12") == "12"  # which ImageParameters refuses
    assert read_value("size", 64) == "64"
    with pytest.raises(RequestError, match="model must be a text, got True"):
        read_value("model", True)

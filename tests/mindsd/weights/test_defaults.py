"""What a model folder may say of how it wants to be called, and what is refused."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import GenerationConfig

from mindsd.errors import ModelError
from mindsd.weights.defaults import DEFAULTS, CallDefaults, read_defaults, sampling_defaults


def test_a_folder_without_the_file_leaves_everything_open(tmp_path):
    assert read_defaults(tmp_path) == CallDefaults(steps=None, guidance=None, options={})


def test_what_the_file_says(tmp_path):
    said = {"steps": 20, "guidance": 0, "options": {"max_sequence_length": 0}}
    (tmp_path / DEFAULTS).write_text(json.dumps(said))
    assert read_defaults(tmp_path) == CallDefaults(20, 0, {"max_sequence_length": 0})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"step": 20}', "unknown key 'step'; it takes steps, guidance, options"),
        ('{"steps": 0}', "steps must be a whole number of at least 1, got 0"),
        ('{"steps": true}', "steps must be a whole number .* got True"),
        ('{"steps": 2.0}', "steps must be a whole number .* got 2.0"),
        ('{"guidance": -1}', "guidance must be a finite number of at least 0, got -1"),
        ('{"guidance": NaN}', "guidance must be a finite number .* got nan"),
        ('{"guidance": "3"}', "guidance must be a finite number .* got '3'"),
        ('{"options": null}', "options must be an object, got None"),
        ('{"options": ["a"]}', "options must be an object"),
        ("[]", "must hold a JSON object, found list"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_mistakes_name_the_file(tmp_path, content, said):
    (tmp_path / DEFAULTS).write_text(content)
    with pytest.raises(ModelError, match=f"{DEFAULTS}.*{said}"):
        read_defaults(tmp_path)


def model(**said: Any) -> Any:
    return SimpleNamespace(generation_config=GenerationConfig(**said))


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, {}),
        ({"do_sample": True, "eos_token_id": 2, "max_new_tokens": 64, "num_beams": 3}, {}),
        (
            {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.1},
            {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.1},
        ),
        ({"temperature": 0.6, "repetition_penalty": 1}, None),  # without do_sample
        ({"temperature": None, "top_p": 0.9}, {"top_p": 0.9}),
        ({"do_sample": False}, {"temperature": 0.0}),
        ({"do_sample": False, "temperature": 0.6, "top_k": 0}, {"temperature": 0.0, "top_k": 0}),
    ],
)
def test_how_a_language_model_draws(said, found):
    assert sampling_defaults(model(**said), "a") == (said if found is None else found)
    assert sampling_defaults(model(**said), "a", "mindsd") == {}


def test_a_model_that_says_nothing_at_all():
    assert sampling_defaults(SimpleNamespace(generation_config=None), "a") == {}
    assert sampling_defaults(SimpleNamespace(), "a") == {}


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"top_p": 1.5}, "top_p is a number above 0 to 1, got 1.5"),
        ({"top_k": -1}, "top_k is a whole number from 0 up, got -1"),
        ({"temperature": "hot"}, "temperature is a number .* got 'hot'"),
        ({"repetition_penalty": 0}, "repetition_penalty is a number above 0 up, got 0"),
        ({"do_sample": "no"}, "do_sample is true or false, got 'no'"),
        ({"do_sample": False, "top_p": 0}, "top_p is a number above 0 to 1, got 0"),
    ],
)
def test_how_no_model_can_draw(said, match):
    wrong = SimpleNamespace(generation_config=SimpleNamespace(**said))
    with pytest.raises(ModelError, match=f'big-1 says .*{match}; .*generation_config="mindsd"'):
        sampling_defaults(wrong, "big-1")
    assert sampling_defaults(wrong, "big-1", "mindsd") == {}

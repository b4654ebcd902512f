"""What a model folder may say of how it wants to be called, and what is refused."""

import json

import pytest

from mindsd.errors import ModelError
from mindsd.weights.defaults import DEFAULTS, CallDefaults, read_defaults


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

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mindsd.app.runs.identity import digest, key_of, model_identity
from mindsd.errors import ModelError


def test_a_model_is_what_it_holds_wherever_it_lies(model, tmp_path):
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    changed = Path(shutil.copytree(model, tmp_path / "changed"))
    weights = next((changed / "unet").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    settings = Path(shutil.copytree(model, tmp_path / "settings"))
    config = settings / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("1000", "900"))
    own = model_identity(str(model))
    assert model_identity(str(copy)) == own
    assert len({own, model_identity(str(changed)), model_identity(str(settings))}) == 3
    with pytest.raises(ModelError):
        model_identity("none")


def test_a_key_is_of_values_not_of_their_order():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})
    assert digest(1, 2) != digest([1, 2]) != digest(12)

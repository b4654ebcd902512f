"""What is on a shelf, whatever else lies there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mindsd.errors import ModelError, RequestError, UnknownModel
from mindsd.pipelines.shelf import Shelf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "smol.gguf").touch()
    (tmp_path / "Up.GGUF").touch()
    for name, config in (
        ("sees", '{"model_type": "a", "vision_config": {"a": 1}}'),
        ("none", "[]"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
    (tmp_path / "draws").mkdir()
    (tmp_path / "draws" / "model_index.json").write_text("{}")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "not an id.gguf").touch()
    return tmp_path


def test_models_are_known_by_their_configuration(folder: Path):
    found = Shelf(folder, shipped=False).entries()
    kinds = {"Up": "text", "draws": "image", "sees": "vision", "smol": "text"}
    assert {own.id: own.kind for own in found.values()} == kinds
    assert all(own.created > 0 for own in found.values())


def test_a_folder_that_may_not_be_read_hides_no_other(folder: Path, monkeypatch):
    real = os.stat

    def stat(path: object, **how: object) -> os.stat_result:
        if "draws" in str(path):
            raise PermissionError(errno.EACCES, "no")
        return real(path, **how)  # pyright: ignore

    monkeypatch.setattr(os, "stat", stat)
    assert sorted(Shelf(folder, shipped=False).entries()) == ["Up", "sees", "smol"]


def test_what_is_not_there_is_refused_by_name(folder: Path):
    with pytest.raises(UnknownModel, match="did you mean 'smol'"):
        Shelf(folder, shipped=False).find("smoll")
    with pytest.raises(ModelError, match="is no folder"):
        Shelf(folder / "nowhere")
    with pytest.raises(RequestError, match="no id"):
        Shelf(named={"../a": folder})

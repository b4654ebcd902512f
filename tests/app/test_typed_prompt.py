"""Prompts as people type them, through the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindsd.app.picture_record import read_record
from tests.zoo.image_lora import save_lora
from tests.zoo.stable_diffusion import stable_diffusion


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an adapter, `ink.safetensors`."""
    folder, written = tmp_path_factory.mktemp("loras"), tmp_path_factory.mktemp("written")
    save_lora(stable_diffusion(), written, 3, ["unet"])
    [file] = written.rglob("*.safetensors")
    file.rename(folder / "ink.safetensors")
    return folder


@pytest.fixture
def drawn(mindsd, model, tmp_path):
    def draw(*arguments: object) -> tuple[np.ndarray, Path]:
        said = ("--model", model, "--steps", 2, "--seed", 1, "--size", "64x64", "-o", tmp_path)
        run = mindsd("generate", *arguments, *said)
        assert run.code == 0, run.err
        [file] = map(Path, run.lines)
        return np.asarray(Image.open(file)), file

    return draw


def test_a_tag_brings_its_adapter_and_is_no_word_of_the_prompt(
    drawn, loras, mindsd, model, tmp_path
):
    plain, _ = drawn("a fox")
    inked, file = drawn("a fox <lora:ink:0.8>", "--loras", loras)
    assert not np.array_equal(plain, inked)
    record = read_record(file)
    assert record is not None and record.parameters.prompt == "a fox"
    assert record.parameters.loras == (("ink", 0.8),)
    assert np.array_equal(plain, drawn("a fox <lora:ink:0>", "--loras", loras)[0])
    again = mindsd("generate", "--from", file, "--model", model, "--loras", loras, "-o", tmp_path)
    assert again.code == 0 and np.array_equal(np.asarray(Image.open(again.lines[0])), inked)


def test_an_adapter_that_is_not_there_is_refused(mindsd, model, loras, tmp_path):
    said = ("--model", model, "-o", tmp_path)
    run = mindsd("generate", "a <lora:inc>", "--loras", loras, *said)
    assert run.code == 2 and "no LoRA 'inc'; there are: ink" in run.err
    run = mindsd("generate", "a <lora:ink>", *said)
    assert run.code == 2 and "--loras names their folder" in run.err
    run = mindsd("generate", "a", "--loras", tmp_path / "no", *said)
    assert run.code == 2 and "is no folder" in run.err


def test_weights_count_where_there_are_some_and_not_where_it_is_said(drawn):
    plain, _ = drawn("a red fox")
    weighted, file = drawn("a (red:1.5) fox")
    record = read_record(file)
    assert record is not None and record.parameters.weighted
    assert record.parameters.prompt == "a (red:1.5) fox"
    assert not np.array_equal(plain, weighted)
    literal, file = drawn("a (red:1.5) fox", "--not-weighted")
    record = read_record(file)
    assert record is not None and not record.parameters.weighted
    assert not np.array_equal(literal, weighted)
    assert np.array_equal(drawn("a (red:1) fox")[0], drawn("a red fox", "--weighted")[0])
    assert np.array_equal(plain, drawn("a red fox", "--weighted")[0])


def test_without_compel_weights_are_told_of(mindsd, model, tmp_path, monkeypatch):
    for place in ("mindsd.app.typed_prompt", "mindsd.pipelines.weighting"):
        monkeypatch.setattr(f"{place}.find_spec", lambda name: None)
    said = ("generate", "a (red:1.5) fox", "--model", model, "--steps", 2, "-o", tmp_path)
    run = mindsd(*said, "--size", "64x64")
    assert run.code == 0 and "weights take pip install 'mindsd[prompt]'" in run.err
    assert "weights take" not in mindsd(*said, "--size", "64x64", "--not-weighted").err

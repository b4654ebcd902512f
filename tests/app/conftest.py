"""A small random model in a folder, and the command line run in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mindsd.app.cli import main


@dataclass(frozen=True)
class Run:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture(autouse=True)
def _no_config_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in a developer's own file would change what commands do."""
    monkeypatch.setenv("MINDSD_CONFIG", os.devnull)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.zoo.stable_diffusion import stable_diffusion

    folder = tmp_path_factory.mktemp("models") / "thin-sd"
    stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama with room for 256 tokens, whose words are nonsense."""
    from tests.zoo.tiny_llama import tiny_llama, tiny_tokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    tiny_llama(len(tokenizer), max_position_embeddings=256).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def vision_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SmolVLM with room for 512 tokens, 4 a picture, whose words are nonsense."""
    from tests.zoo.vision import vision_case

    folder, case = tmp_path_factory.mktemp("models") / "tiny-eyes", vision_case("smolvlm")
    case.model.save_pretrained(folder)
    case.processor.save_pretrained(folder)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three picture files of other colours."""
    from tests.zoo.vision import colours

    files = [tmp_path / "pictures" / f"{name}.png" for name in "abc"]
    files[0].parent.mkdir()
    for number, file in enumerate(files):
        colours(number, 24 + 8 * number, 16).save(file)
    return files


@pytest.fixture
def mindsd(capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    def run(*arguments: object) -> Run:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Run(code, told.out, told.err)

    return run

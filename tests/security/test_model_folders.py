"""Model folders that want more than to be read: they load as they are told to, or not at all.

No code of theirs runs, nothing is asked of the network and no file is written. What each loader
refuses by name is held by its own tests (tests/mindsd/weights).
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mindsd.errors import ModelError
from mindsd.pipelines.hub import Hub, HubOptions
from mindsd.pipelines.shelf import Shelf

CODE = "open({sentinel!r}, 'w').close()\nclass Own: pass\nclass OwnPipeline: pass\n"


class Trap:
    """A copy of a model, and what would show that it had its way."""

    def __init__(self, model: Path, where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = Path(shutil.copytree(model, where / "trap"))
        self.sentinel = where / "sentinel"
        self.asked: list[Any] = []
        monkeypatch.setattr(socket, "getaddrinfo", self._ask)
        monkeypatch.setattr(socket.socket, "connect", self._ask)

    def change(self, file: str, **entries: Any) -> None:
        told = json.loads((self.folder / file).read_text())
        (self.folder / file).write_text(json.dumps({**told, **entries}))

    def plant(self, *names: str) -> None:
        for name in names:
            (self.folder / name).write_text(CODE.format(sentinel=str(self.sentinel)))

    def load(self) -> str | None:
        """Why it was refused; None where it was loaded. In both cases it did nothing else."""
        before, known = sorted(self.folder.rglob("*")), set(sys.modules)
        said = None
        shelf = Shelf(self.folder.parent, shipped=False)
        with Hub(shelf, HubOptions(device="cpu", dtype="float32", keep_alive=None)) as hub:
            try:
                hub.leave(hub.enter("trap"))
            except ModelError as error:
                said = str(error)
        assert self.asked == [] and not self.sentinel.exists()
        new = {name.split(".")[0] for name in set(sys.modules) - known}
        assert not new & {"transformers_modules", "diffusers_modules", "own", "pipeline"}
        assert sorted(self.folder.rglob("*")) == before
        return said

    def _ask(self, *arguments: Any, **_: Any) -> None:
        self.asked.append(arguments)
        raise OSError("there is no network")


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Trap]:
    return lambda model: Trap(model, tmp_path, monkeypatch)


def test_a_sound_copy_loads(trap, model: Path):
    assert trap(model).load() is None


def test_a_sound_copy_of_a_language_model_loads(trap, language_model: Path):
    assert trap(language_model).load() is None


@pytest.mark.parametrize(
    "file", ["None.py", "pipeline.py", "unet/own.py", "scheduler/scheduling_ddim.py"]
)
def test_code_beside_an_image_model(trap, model: Path, file: str):
    """CVE-2026-44827, CVE-2026-44513, CVE-2026-45804: three ways round trust_remote_code=False."""
    own = trap(model)
    own.plant(file)
    assert "code" in (own.load() or "")


@pytest.mark.parametrize(
    "entries",
    [
        {"_class_name": ["pipeline", "OwnPipeline"]},
        {"_class_name": "OwnPipeline"},
        {"custom_pipeline": "somebody/pipeline"},
        {"unet": ["own", "Own"]},
        {"unet": ["None", "Own"]},
        {"unet": ["os", "system"]},
        {"scheduler": ["subprocess", "Popen"]},
        {"auto_map": {"AutoModel": "pipeline.Own"}},
    ],
)
def test_an_index_of_an_image_model_that_names_code(trap, model: Path, entries: dict[str, Any]):
    own = trap(model)
    own.change("model_index.json", **entries)
    said = own.load()
    harmless = {"custom_pipeline", "auto_map"}  # an entry that nobody reads
    assert said is not None or set(entries) <= harmless


@pytest.mark.parametrize(
    "entries",
    [
        {"auto_map": {"AutoModelForCausalLM": "own.Own", "AutoConfig": "own.Own"}},
        {"auto_map": {"AutoModelForCausalLM": "somebody/model--own.Own"}},
        {"trust_remote_code": True, "auto_map": {"AutoConfig": "somebody/model--own.Own"}},
        {"_attn_implementation_internal": "somebody/kernel"},
        {"attn_implementation": "somebody/kernel"},
        {"_attn_implementation": "somebody/kernel:own"},
        {"experts_implementation": "somebody/kernel"},
        {"_name_or_path": "somebody/model", "_commit_hash": "main"},
        {"architectures": ["Own"]},
        {"quantization_config": {"quant_method": "own", "modules": "os.system"}},
        {"text_config": {"trust_remote_code": True, "auto_map": {"AutoConfig": "own.Own"}}},
    ],
)
def test_a_configuration_of_a_language_model_that_names_code(
    trap, language_model: Path, entries: dict[str, Any]
):
    """CVE-2026-4372, CVE-2026-80047, CVE-2025-14926, CVE-2025-66448: fields that ran hub code."""
    own = trap(language_model)
    own.change("config.json", **entries)
    own.load()  # either way; what counts is what it did not do


@pytest.mark.parametrize("file", ["own.py", "modeling_llama.py", "tokenization_own.py"])
def test_code_beside_a_language_model_is_never_run(trap, language_model: Path, file: str):
    own = trap(language_model)
    own.plant(file)
    own.change("tokenizer_config.json", auto_map={"AutoTokenizer": [f"{file[:-3]}.Own", None]})
    own.load()


@pytest.mark.parametrize("ending", ["safetensors", "bin", "pt", "pth", "ckpt", "pkl", "gguf"])
def test_a_pickle_by_whatever_name(trap, language_model: Path, model: Path, ending: str):
    """CVE-2025-32434, CVE-2024-12029, CVE-2026-24747: also weights_only was got round."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(own.sentinel),)

    own = trap(language_model)
    for file in own.folder.glob("*.safetensors"):
        file.unlink()
    name = f"pytorch_model.{ending}" if ending != "safetensors" else "model.safetensors"
    (own.folder / name).write_bytes(pickle.dumps(Bomb()))
    assert own.load() is not None

"""The same weights for everybody: SmolLM2-135M's GGUF file, unpacked and converted once."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..environments import FOLDER
from .environments import interpreter

HERE = Path(__file__).parents[2]


class NoWeights(Exception):
    """They cannot be made; the message says why."""


@dataclass(frozen=True)
class Weights:
    """Where the weights lie, by the form that engines want, and the real prompt.

    Attributes:
        forms: "gguf", "folder", "openvino-plain", "openvino-int8" -> file or folder.
        greedy: tokens of the prompt.
        expected: what follows it in float32.
    """

    forms: dict[str, Path]
    greedy: list[int]
    expected: list[int]


def weights(openvino: bool) -> Weights:
    """All of them, made where they are not there yet.

    Raises:
        NoWeights: a conversion failed.
        NoEnvironment: what converts for OpenVINO cannot be installed.
    """
    folder = FOLDER / "language-weights"
    model, converted, greedy = folder / "model", folder / "openvino", folder / "greedy.json"
    if not greedy.exists():
        _run(sys.executable, "unpacked_weights", str(folder))
    if openvino and not (converted / "done").exists():
        python = interpreter("openvino-weights")
        _run(str(python), "openvino_weights", str(model), str(converted))
    told: dict[str, Any] = json.loads(greedy.read_text())
    forms = {"gguf": Path(told["gguf"]), "folder": model}
    forms |= {f"openvino-{kind}": converted / kind for kind in ("plain", "int8")}
    return Weights(forms, told["prompt"], told["expected"])


def _run(python: str, module: str, *arguments: str) -> None:
    command = [python, "-m", f"peers.language.{module}", *arguments]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise NoWeights(f"{module} failed: {last}")

"""Who is compared, and how each is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .job import Job
from .weights import Weights

OPENVINO = "OpenVINO GenAI"


@dataclass(frozen=True)
class Way:
    """One line of the table.

    Attributes:
        name: as `--only` says it.
        title: as the table says it.
        engine: a name of engines.py.
        form: of the weights.
        settings: what the engine is told.
    """

    name: str
    title: str
    engine: str
    form: str
    settings: dict[str, Any]

    def asks(self, job: Job, weights: Weights) -> Job:
        return replace(
            job,
            engine=self.engine,
            settings=self.settings,
            weights=str(weights.forms[self.form]),
            greedy=weights.greedy,
        )


def _openvino(name: str, form: str, hint: str) -> Way:
    kept = "int8 weights" if form == "int8" else "weights as exported"
    settings = {"INFERENCE_PRECISION_HINT": hint}
    title = f"{OPENVINO}, {kept}, {hint}"
    return Way(name, title, "openvino", f"openvino-{form}", settings)


WAYS = (
    Way("transformers", "transformers, bf16", "transformers", "folder", {"dtype": "bfloat16"}),
    Way("mindsd", "mindsd, bf16", "mindsd", "folder", {"dtype": "bfloat16"}),
    Way(
        "mindsd-int8",
        "mindsd, bf16, int8 layers",
        "mindsd",
        "folder",
        {"dtype": "bfloat16", "layers": "int8"},
    ),
    Way("llama-cpp", "llama.cpp, Q4_1", "llama-cpp", "gguf", {}),
    _openvino("openvino-bf16", "plain", "bf16"),
    _openvino("openvino-int8", "int8", "f32"),
    _openvino("openvino-int8-bf16", "int8", "bf16"),
    Way("vllm", "vLLM for CPUs, bf16", "vllm", "folder", {"dtype": "bfloat16"}),
)
NAMES = tuple(way.name for way in WAYS)

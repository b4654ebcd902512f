"""Models from a folder or from memory: the same images, or one clear sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mindsd.device import SMALL_MODEL, Device, fast_dtype
from mindsd.errors import MindsdError, ModelError, RequestError
from mindsd.pipelines.loading import load_model
from tests.zoo.cases import CASES
from tests.zoo.drawing import distance, plain, together

TOLERANCE = 1e-5
FAMILIES = ["sd", "sdxl", "sd3", "flux", "pixart", "qwen-image", "z-image"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    CASES["sd"].pipe().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_folder_draws_what_the_pipeline_drew(family: str, tmp_path: Path):
    case = CASES[family]
    asked = case.asked()[0]
    case.pipe().save_pretrained(tmp_path)
    loaded = load_model(tmp_path, "cpu", "float32")
    (image,), _ = together(loaded.pipe, [asked])  # opens the modules for itself
    assert torch.equal(image, plain(loaded.pipe, asked))
    # Weights read from a file lie elsewhere in memory, which alone may change the last bits.
    assert distance(image, plain(case.pipe(), asked)) < TOLERANCE


def test_a_pipeline_saved_without_a_part_is_loaded_without_it(tmp_path: Path):
    """Stable Diffusion 3 is often kept without its T5, which diffusers then misses."""
    whole: Any = CASES["sd3"].pipe()
    whole.register_modules(text_encoder_3=None, tokenizer_3=None)
    whole.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, "cpu", "float32")
    asked = CASES["sd3"].asked()[0]
    assert distance(plain(loaded.pipe, asked), plain(whole, asked)) < TOLERANCE


def test_dtype_and_device_are_those_asked(folder: Path):
    loaded = load_model(folder, "cpu", "bfloat16")
    pipe: Any = loaded.pipe
    assert (pipe.unet.dtype, pipe.device.type) == (torch.bfloat16, "cpu")
    assert loaded.name == "model"


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"device": "abacus"}, "unknown device 'abacus'"),
        ({"device": "npu"}, "torch_npu is not installed"),
        ({"dtype": "float8"}, "unknown dtype 'float8'"),
        ({"dtype": "bfloat16"}, r"the pipeline is in float32, not bfloat16; .* pipe.to\(torch.b"),
        ({"attention": "fast"}, "unknown attention 'fast'"),
    ],
    ids=str,
)
def test_what_this_machine_has_not(wishes: dict[str, str], said: str):
    refuse(CASES["sd"].pipe(), RequestError, said, **wishes)


@pytest.mark.parametrize(
    "wishes", [{"layers": "wibble"}, {"layers": "w8a8"}, {"attention": "fast"}], ids=str
)
def test_what_is_known_before_weights_are_read_is_said_before(
    wishes: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mindsd.pipelines.loading._read", None)
    refuse(folder, RequestError, next(iter(wishes.values())), **wishes)


def test_a_pipeline_class_that_diffusers_has_not(folder: Path):
    edit(folder / "model_index.json", _class_name="TomorrowPipeline")
    refuse(folder, ModelError, "TomorrowPipeline, which diffusers")


def test_a_class_of_diffusers_that_is_no_pipeline(folder: Path):
    edit(folder / "model_index.json", _class_name="UNet2DConditionModel")
    refuse(folder, ModelError, "UNet2DConditionModel")


def test_a_config_of_other_shapes_than_the_weights(folder: Path):
    edit(folder / "unet" / "config.json", cross_attention_dim=48)
    refuse(folder, ModelError, "cannot be loaded as StableDiffusionPipeline")


def test_a_component_class_that_does_not_exist(folder: Path):
    edit(folder / "model_index.json", unet=["diffusers", "UNet9DModel"])
    refuse(folder, ModelError, "UNet9DModel|cannot be loaded")


def test_a_missing_tokenizer(folder: Path):
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    refuse(folder, ModelError, "tokenizer is empty")


@pytest.mark.parametrize(
    ("file", "weight"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "conv_in.weight"),
        ("text_encoder/model.safetensors", "final_layer_norm.bias"),
    ],
)
def test_weights_that_are_missing_are_not_drawn_at_random(folder: Path, file: str, weight: str):
    weights = load_file(folder / file)
    gone = next(name for name in weights if name.endswith(weight))
    weights.pop(gone)
    save_file(weights, folder / file, metadata={"format": "pt"})
    refuse(folder, ModelError, f"lacks 1 weights of .*{weight}")


def refuse(model: Any, error: type[MindsdError], said: str, **wishes: str) -> None:
    """Loading raises this error, in one sentence that matches."""
    with pytest.raises(error, match=said) as refused:
        load_model(model, **wishes)
    assert len(str(refused.value).splitlines()) == 1


def test_small_models_stay_in_float32_on_a_cpu():
    cpu = Device("cpu", "any", torch.bfloat16, 2**34)
    gpu = Device("cuda", "any", torch.bfloat16, 2**34)
    assert fast_dtype(cpu, SMALL_MODEL - 1) == torch.float32
    assert fast_dtype(cpu, SMALL_MODEL) == fast_dtype(gpu, 0) == torch.bfloat16

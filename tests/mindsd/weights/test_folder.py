"""What is taken for a model folder, and what is refused by name."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mindsd.errors import ModelError
from mindsd.weights.defaults import DEFAULTS, CallDefaults
from mindsd.weights.embedded import embedded
from mindsd.weights.folder import find_model


@pytest.fixture
def folder(tmp_path):
    """A folder that passes every check (its weights are never used)."""
    root = tmp_path / "model"
    for part in ("unet", "scheduler"):
        (root / part).mkdir(parents=True)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
    }
    (root / "model_index.json").write_text(json.dumps(index))
    (root / "unet" / "config.json").write_text("{}")
    (root / "scheduler" / "scheduler_config.json").write_text("{}")
    save_file({"a": torch.zeros(2)}, root / "unet" / "diffusion_pytorch_model.safetensors")
    return root


def change(folder, **entries):
    index = json.loads((folder / "model_index.json").read_text()) | entries
    (folder / "model_index.json").write_text(json.dumps(index))


def test_a_whole_folder_is_described(folder):
    found = find_model(folder)
    assert (found.name, found.pipeline) == ("model", "StableDiffusionPipeline")
    assert found.components == {
        "unet": ("diffusers", "UNet2DConditionModel"),
        "scheduler": ("diffusers", "DDIMScheduler"),
    }
    assert found.absent == ("safety_checker",)
    assert found.defaults == CallDefaults()


def test_its_defaults_are_checked_with_it(folder):
    (folder / DEFAULTS).write_text('{"steps": 12}')
    assert find_model(folder).defaults.steps == 12
    (folder / DEFAULTS).write_text('{"steps": "many"}')
    with pytest.raises(ModelError, match=f"{DEFAULTS}: steps must be a whole number"):
        find_model(folder)


def test_embedded_models_are_found_by_name():
    for name, path in embedded().items():
        assert find_model(name).path == path


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelError, match="no model 'nowhere'.*embedded models are"):
        find_model("nowhere")


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(ModelError, match="has no model_index.json"):
        find_model(tmp_path)


def test_a_missing_component(folder):
    change(folder, vae=["diffusers", "AutoencoderKL"])
    with pytest.raises(ModelError, match="vae is missing"):
        find_model(folder)


def test_missing_weights(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="no .safetensors weights for UNet2DConditionModel"):
        find_model(folder)


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.bin", "model.CKPT", "a/b/c.pt"])
def test_a_pickle_anywhere(folder, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"\x80\x04")
    with pytest.raises(ModelError, match="is a pickle, which can run code"):
        find_model(folder)


def test_code_anywhere(folder):
    (folder / "unet" / "my_unet.py").write_text("print('hello')")
    with pytest.raises(ModelError, match="my_unet.py in .* is code"):
        find_model(folder)


@pytest.mark.parametrize("shard", ["../../secret.safetensors", "/etc/passwd", "sub/x.safetensors"])
def test_a_sharded_index_that_leads_out(folder, shard):
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(ModelError, match="leads out of its folder"):
        find_model(folder)


def test_a_sharded_index_that_names_a_missing_file(folder):
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "part-00002.safetensors"}}))
    with pytest.raises(ModelError, match="part-00002.safetensors', which is missing"):
        find_model(folder)
    index.write_text("[]")
    with pytest.raises(ModelError, match="not a sharded index"):
        find_model(folder)


def test_weights_that_are_cut_short(folder):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ModelError, match="not readable as safetensors"):
        find_model(folder)


def test_components_of_other_libraries_are_remote_code(folder):
    change(folder, unet=["os", "system"])
    with pytest.raises(ModelError, match="comes from 'os', which would be remote code"):
        find_model(folder)
    change(folder, unet=["../evil", "UNet"])
    with pytest.raises(ModelError, match="remote code"):
        find_model(folder)


def test_a_pipeline_class_in_a_file_is_remote_code(folder):
    change(folder, _class_name=["my_pipeline", "MyPipeline"])
    with pytest.raises(ModelError, match="names no diffusers pipeline"):
        find_model(folder)


def test_broken_json(folder):
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        find_model(folder)
    (folder / "model_index.json").write_text("[]")
    with pytest.raises(ModelError, match="must hold a JSON object"):
        find_model(folder)


def test_weights_without_their_config(folder):
    (folder / "unet" / "config.json").unlink()
    with pytest.raises(ModelError, match="has weights but no config.json"):
        find_model(folder)


def test_a_tokenizer_without_its_files(folder):
    change(folder, tokenizer=["transformers", "CLIPTokenizer"])
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelError, match="no vocabulary for CLIPTokenizer"):
        find_model(folder)
    (folder / "tokenizer" / "tokenizer_config.json").unlink()
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    with pytest.raises(ModelError, match="no tokenizer_config.json"):
        find_model(folder)


def test_a_linked_folder_is_not_followed(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "vae").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="vae in .* is a linked folder"):
        find_model(folder)


def test_a_shard_that_is_no_safetensors_file(folder):
    (folder / "unet" / "weights.dat").write_bytes(b"PK")
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "weights.dat"}}))
    with pytest.raises(ModelError, match="which is no .safetensors file"):
        find_model(folder)


def test_eyes_are_no_image_model():
    with pytest.raises(ModelError, match="it does not draw; show it one: mindsd chat"):
        find_model("tiny-vlm")

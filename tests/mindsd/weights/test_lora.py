"""Which adapters are read, as what, and which are refused by name."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mindsd.errors import ModelError, RequestError
from mindsd.weights.lora import CONFIG, WEIGHTS, read_lora
from tests.zoo.decoders import decoder
from tests.zoo.lora import adapted, save_adapter
from tests.zoo.tiny_llama import tiny_llama

QUERY = "model.layers.0.self_attn.q_proj"
KEY = f"base_model.model.{QUERY}.lora_A.weight"


@pytest.fixture(scope="module")
def model():
    return tiny_llama(64)


@pytest.fixture
def folder(model, tmp_path):
    return save_adapter(model, tmp_path / "adapter", 1)


def say(folder, **options: Any) -> None:
    file = folder / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | options))


def rewrite(folder, change) -> None:
    weights = load_file(folder / WEIGHTS)
    weights = {key: weight.clone() for key, weight in weights.items()}
    change(weights)
    save_file(weights, folder / WEIGHTS)


def refused(folder, model, match: str) -> None:
    with pytest.raises(ModelError, match=match) as error:
        read_lora(folder, model)
    assert "\n" not in str(error.value)


def same_as_peft(model, folder) -> None:
    """Every layer adds what peft's own adds, and there are no others."""
    own: Any = adapted(model, folder)
    theirs = {
        name.removeprefix("base_model.model."): module
        for name, module in own.named_modules()
        if hasattr(module, "lora_A")
    }
    found = read_lora(folder, model)
    assert found.keys() == theirs.keys()
    for name, layer in found.items():
        module = theirs[name]
        x = torch.randn(5, layer.a.shape[1], generator=torch.Generator().manual_seed(2))
        scale = module.scaling["default"]
        with torch.no_grad():
            expected = module.lora_B["default"](module.lora_A["default"](x)) * scale
        torch.testing.assert_close(x @ layer.a.T @ layer.b.T, expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True, "r": 3},
        {"rank_pattern": {"layers.1.self_attn.q_proj": 2}, "alpha_pattern": {"k_proj": 5}},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.(up|down)_proj"},
        {"layers_to_transform": [1], "lora_dropout": 0.1},
        {"exclude_modules": ["layers.0.self_attn.v_proj"]},
    ],
)
def test_every_layer_is_peft_s_own(model, tmp_path, options):
    same_as_peft(model, save_adapter(model, tmp_path / "a", 3, **options))


def test_transposed_layers(tmp_path):
    model = decoder("gpt2")
    targets = {"target_modules": ["c_attn", "mlp.c_proj"], "fan_in_fan_out": True}
    same_as_peft(model, save_adapter(model, tmp_path / "a", 3, **targets))


def test_layers_are_in_the_dtype_of_the_model_and_copies(model, folder):
    half: Any = tiny_llama(64)
    layer = read_lora(folder, half.to(torch.bfloat16))[QUERY]
    assert layer.a.dtype == layer.b.dtype == torch.bfloat16
    layer = read_lora(folder, model)[QUERY]
    before = layer.a.clone()
    with open(folder / WEIGHTS, "r+b") as file:
        file.seek(-512, 2)
        file.write(b"\0" * 512)
    assert torch.equal(layer.a, before)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"peft_type": "LOHA"}, "peft_type 'LOHA'"),
        ({"peft_type": None}, "peft_type None"),
        ({"use_dora": True}, "use_dora=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"lora_bias": True}, "lora_bias=True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"target_parameters": ["experts.up"]}, "target_parameters"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"invented_tomorrow": 7}, "invented_tomorrow=7"),
        ({"task_type": "SEQ_CLS"}, "task 'SEQ_CLS'"),
        ({"auto_mapping": {"base_model_class": "GPT2LMHeadModel"}}, "a GPT2LMHead.* a LlamaFor"),
        ({"target_modules": ["q_proj"]}, "k_proj, which its .* does not target"),
        ({"target_modules": "(("}, "broken target_modules"),
        ({"target_modules": None}, "target_modules"),
        ({"rank_pattern": {"((": 3}}, "broken rank"),
        ({"rank_pattern": [3]}, "broken rank"),
        ({"r": 0}, "rank 0"),
        ({"r": "4"}, "rank '4'"),
        ({"lora_alpha": float("inf")}, "alpha inf"),
        ({"r": 8}, r"\[4, 16\] .* needs \[8, 16\]"),
        ({"layers_pattern": "h"}, "layers_to_transform"),
    ],
)
def test_what_is_not_plain_lora_is_refused(model, folder, options, match):
    say(folder, **options)
    refused(folder, model, match)


def test_what_is_off_or_unknown_and_off_is_read(model, folder):
    say(folder, invented_tomorrow=None, another={}, bias="none", use_dora=False)
    assert QUERY in read_lora(folder, model)


def put(key, weight):
    return lambda weights: weights.update({key: weight})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda weights: weights.pop(KEY), "lora_B of .*q_proj and not the other half"),
        (put(KEY, torch.zeros(4, 15)), r"\[4, 15\] .* needs \[4, 16\]"),
        (put(KEY, torch.zeros(4, 16).long()), "int64"),
        (put(KEY, torch.full((4, 16), torch.nan)), "not numbers"),
        (put("base_model.model.lm_head.weight", torch.zeros(3)), "lm_head.weight, more than plain"),
        (put(f"base_model.model.{QUERY}.lora_magnitude_vector", torch.zeros(3)), "magnitude"),
        (lambda weights: weights.clear(), "holds no weights"),
        (
            lambda weights: [weights.pop(key) for key in list(weights) if ".layers.1." in key],
            "lacks 4 of the modules .* as model.layers.1",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(model, folder, change, match):
    rewrite(folder, change)
    refused(folder, model, match)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_the_ends_of_a_model_are_refused(model, tmp_path, target):
    folder = save_adapter(model, tmp_path / "a", 1, target_modules=[target])
    refused(folder, model, f"holds .*{target}.*, more than plain LoRA")


def test_layers_that_see_only_some_of_the_tokens_are_refused(model, folder):
    for half, shape in (("A", (4, 16)), ("B", (64, 4))):
        rewrite(folder, put(f"base_model.model.lm_head.lora_{half}.weight", torch.ones(shape)))
    refused(folder, model, "lm_head, which not every token")


def test_an_adapter_of_another_model_is_refused(folder, tmp_path):
    refused(folder, decoder("gpt2"), "_proj, which this GPT2LMHeadModel does not have")
    refused(folder, tiny_llama(64, hidden_size=32), r"this model needs \[4, 32\]")
    refused(folder, tiny_llama(64, num_hidden_layers=3), "lacks 4 .* as model.layers.2")
    refused(folder, tiny_llama(64, num_hidden_layers=1), "layers.1.* does not have")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_folder_that_is_not_whole_is_refused(model, folder, name):
    (folder / name).write_bytes(b"[]")
    refused(folder, model, name)
    (folder / name).unlink()
    refused(folder, model, f"has no {name}")


def test_a_folder_with_a_pickle_is_refused(model, folder):
    (folder / "training_args.bin").write_bytes(b"")
    refused(folder, model, "training_args.bin .* is a pickle")


def test_without_peft_it_says_what_to_install(model, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RequestError, match="pip install peft"):
        read_lora(folder, model)

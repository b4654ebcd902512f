"""Which LoRA files of image models are read, as what, and which are refused by name."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mindsd.errors import ModelError
from mindsd.weights.image_lora import read_image_lora
from mindsd.weights.image_lora_file import NAMED
from tests.zoo.cases import CASES
from tests.zoo.image_lora import adapted, save_kohya, save_lora

BOTH = ("unet", "text_encoder")
QUERY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def pipe() -> Any:
    return CASES["sd"].build()


@pytest.fixture(scope="module")
def saved(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lora(pipe, tmp_path_factory.mktemp("lora"), 1, BOTH) / NAMED


def same_as_diffusers(pipe: Any, build: Any, path: Path) -> int:
    """Every layer's delta is that of diffusers' own; how many there are."""
    own, found = adapted(build, [(path, 1.0)]), read_image_lora(path, pipe)
    theirs: dict[str, Any] = {
        f"{component}.{name}": module
        for component, model in own.components.items()
        if isinstance(model, torch.nn.Module)
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }
    assert found.keys() == theirs.keys()
    for place, layer in found.items():
        a, b = layer.a.flatten(1), layer.b.flatten(1)
        delta = theirs[place].get_delta_weight("lora0")
        torch.testing.assert_close(b @ a, delta.flatten(1), rtol=1e-5, atol=1e-6)
    return len(found)


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux"])
@pytest.mark.parametrize("told", [False, True], ids=["plain", "with options"])
def test_files_of_diffusers(family: str, told: bool, tmp_path: Path):
    built: Any = CASES[family].build()
    parts = [name for name in built._lora_loadable_modules if name != "text_encoder_3"]
    scales = {"lora_alpha": 6, "rank_pattern": {"to_q": 2}, "alpha_pattern": {"to_k": 3}}
    path = save_lora(built, tmp_path, 2, parts, told=told, **(scales if told else {}))
    assert same_as_diffusers(built, CASES[family].build, path) > 20


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("alpha", [None, 2.0])
def test_files_of_kohya(family: str, alpha: float | None, tmp_path: Path):
    built: Any = CASES[family].build()
    parts = built._lora_loadable_modules
    path = save_kohya(built, tmp_path / "k.safetensors", 3, parts, lambda name: alpha)
    assert same_as_diffusers(built, CASES[family].build, path) > 40


def test_every_layer_of_kohya_has_its_own_alpha(pipe: Any, tmp_path: Path):
    """diffusers 0.42 misses those of text encoders and attention where they differ."""
    plain = save_kohya(pipe, tmp_path / "plain.safetensors", 3, BOTH, lambda name: None)
    told = save_kohya(
        pipe, tmp_path / "told.safetensors", 3, BOTH, lambda name: 1.0 if "to_q" in name else 2.0
    )
    before, after = read_image_lora(plain, pipe), read_image_lora(told, pipe)
    for place, layer in after.items():
        factor = (1 if "to_q" in place else 2) / 4
        torch.testing.assert_close(layer.b, before[place].b * factor)
        assert torch.equal(layer.a, before[place].a)


def test_files_of_kohya_for_flux_are_cut_to_its_layers(tmp_path: Path):
    """One product of theirs is three layers of diffusers'."""
    built: Any = CASES["flux"].build()
    weights = {
        f"lora_unet_double_blocks_0_{name}.{half}.weight": torch.randn(shape) * 0.3
        for name, out in (("img_attn_qkv", 96), ("txt_attn_proj", 32), ("img_mod_lin", 192))
        for half, shape in (("lora_down", (4, 32)), ("lora_up", (out, 4)))
    }
    weights["lora_unet_double_blocks_0_img_attn_qkv.alpha"] = torch.tensor(2.0)
    save_file(weights, tmp_path / "flux.safetensors")
    assert same_as_diffusers(built, CASES["flux"].build, tmp_path / "flux.safetensors") == 5


def test_it_is_kept_in_the_dtype_of_its_layers(pipe: Any, saved: Path):
    half: Any = CASES["sd"].build().to(torch.bfloat16)
    assert {layer.a.dtype for layer in read_image_lora(saved, half).values()} == {torch.bfloat16}
    assert {layer.b.dtype for layer in read_image_lora(saved, pipe).values()} == {torch.float32}


def rewritten(saved: Path, folder: Path, change: Any, head: dict[str, Any] | None = None) -> Path:
    weights = {key: weight.clone() for key, weight in load_file(saved).items()}
    change(weights)
    told = None if head is None else {"lora_adapter_metadata": json.dumps(head)}
    save_file(weights, folder / "changed.safetensors", told)
    return folder / "changed.safetensors"


def put(key: str, shape: tuple[int, ...] = (4, 4)) -> Any:
    return lambda weights: weights.update({key: torch.ones(shape)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(f"{QUERY}.lora_magnitude_vector"), "it is DoRA, more than plain LoRA"),
        (put("lora_unet_conv_in.dora_scale"), "it is DoRA"),
        (put("lora_unet_conv_in.lokr_w1"), "it is LoKr"),
        (put("lora_unet_conv_in.hada_w1_a"), "it is LoHa"),
        (put("lora_unet_conv_in.lora_mid.weight"), "third factor"),
        (put(f"{QUERY}.lora_B.bias"), "bias, more than plain LoRA"),
        (put(f"{QUERY}.diff"), "more than plain LoRA"),
        (put("unet.conv_norm_out.lora_A.weight"), "not the other half"),
        (lambda w: w.pop(f"{QUERY}.lora_B.weight"), "not the other half"),
        (put(f"{QUERY}.lora_A.weight", (3, 64)), "do not fit each other"),
        (lambda w: w[f"{QUERY}.lora_A.weight"].fill_(float("nan")), "not finite"),
        (lambda w: w.clear(), "holds no weights"),
        (put("unet.nowhere.alpha", ()), "no factors for it"),
        (lambda w: w.update({f"{QUERY}.alpha": torch.tensor(0.0)}), "no number above 0"),
        (lambda w: w.update({f"{QUERY}.alpha": torch.ones(2)}), "no number above 0"),
    ],
)
def test_more_or_less_than_plain_is_refused(
    change: Any, said: str, pipe: Any, saved: Path, tmp_path: Path
):
    with pytest.raises(ModelError, match=said) as error:
        read_image_lora(rewritten(saved, tmp_path, change), pipe)
    assert "\n" not in str(error.value)


def pair(name: str, into: tuple[int, ...] = (4, 64), out: tuple[int, ...] = (64, 4)) -> Any:
    def change(weights: dict[str, Any]) -> None:
        weights[f"{name}.lora_A.weight"] = torch.ones(into)
        weights[f"{name}.lora_B.weight"] = torch.ones(out)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            pair(QUERY, (4, 32)),
            r"lora_A of .*to_q with \[4, 32\] numbers, this model needs \[4, 64\]",
        ),
        (pair(QUERY, out=(32, 4)), r"lora_B of .* needs \[64, 4\]"),
        (pair("unet.conv_in"), r"needs \[4, 4, 3, 3\]"),
        (pair("unet.nowhere.to_q"), "which this model's unet does not have"),
        (pair("unet.conv_norm_out"), "a GroupNorm and no plain linear"),
        (pair("text_encoder_2.encoder.layers.0.mlp.fc1"), "for no part of a StableDiffusion"),
        (pair("vae.decoder.conv_in"), "for no part of a StableDiffusion"),
        (pair("transformer.x_embedder"), "for no part of a StableDiffusion"),
        (pair("base_model.model.conv_in"), "for no part of a StableDiffusion"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    change: Any, said: str, pipe: Any, saved: Path, tmp_path: Path
):
    with pytest.raises(ModelError, match=said):
        read_image_lora(rewritten(saved, tmp_path, change), pipe)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"unet.r": 4, "unet.lora_alpha": 4, "unet.use_dora": True}, "use_dora=True, more than"),
        (
            {"unet.r": 8, "unet.lora_alpha": 8, "unet.target_modules": ["to_q"]},
            "options do not target",
        ),
        ({"unet.r": 8, "unet.lora_alpha": 8, "unet.target_modules": r".*"}, "options say 8"),
        ({"unet.peft_type": "LOHA"}, "peft_type 'LOHA'; only LORA"),
        ([1], "no JSON object"),
    ],
)
def test_options_in_the_head_are_read(head: Any, said: str, pipe: Any, saved: Path, tmp_path: Path):
    with pytest.raises(ModelError, match=said):
        read_image_lora(rewritten(saved, tmp_path, lambda w: None, head), pipe)


def test_what_a_loader_would_leave_out_is_refused(tmp_path: Path):
    """diffusers only warns of a block that its Flux converter does not know."""
    built: Any = CASES["flux"].build()
    weights = {
        f"lora_unet_{name}.{half}.weight": torch.randn(shape)
        for name in ("double_blocks_0_txt_attn_proj", "double_blocks_99_txt_attn_proj")
        for half, shape in (("lora_down", (4, 32)), ("lora_up", (32, 4)))
    }
    save_file(weights, tmp_path / "flux.safetensors")
    with pytest.raises(ModelError, match="FluxPipeline"):
        read_image_lora(tmp_path / "flux.safetensors", built)


def test_keys_that_the_converter_stumbles_over_are_refused(pipe: Any, tmp_path: Path):
    weights = {
        f"lora_unet_output_blocks_x.lora_{half}.weight": torch.ones(4, 4) for half in ("down", "up")
    }
    save_file(weights, tmp_path / "odd.safetensors")
    for built in (pipe, CASES["sdxl"].build()):
        with pytest.raises(ModelError, match="made for another model|cannot be read as a LoRA"):
            read_image_lora(tmp_path / "odd.safetensors", built)


def lying(content: bytes) -> bytes:
    size = struct.unpack("<Q", content[:8])[0]
    head = json.loads(content[8 : 8 + size])
    name = next(name for name in head if name != "__metadata__")
    head[name]["data_offsets"][1] += 2**40
    told = json.dumps(head).encode()
    return struct.pack("<Q", len(told)) + told + content[8 + size :]


@pytest.mark.parametrize(
    "change",
    [
        lying,
        lambda content: content[:-10],
        lambda content: struct.pack("<Q", 2**60) + content[8:],
        lambda content: b"",
        lambda content: pickle.dumps({"a": 1}),
    ],
    ids=["offsets", "cut short", "size of the head", "empty", "pickle"],
)
def test_a_file_that_lies_is_refused(change: Any, pipe: Any, saved: Path, tmp_path: Path):
    (tmp_path / "a.safetensors").write_bytes(change(saved.read_bytes()))
    with pytest.raises(ModelError, match="not readable as safetensors"):
        read_image_lora(tmp_path / "a.safetensors", pipe)


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a.ckpt"])
def test_pickles_are_refused_unread(name: str, pipe: Any, tmp_path: Path):
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(ModelError, match="is a pickle, which can run code"):
        read_image_lora(tmp_path / name, pipe)


def test_where_there_is_no_file(pipe: Any, tmp_path: Path):
    for path in (tmp_path, tmp_path / "none.safetensors", tmp_path / "a.gguf"):
        with pytest.raises(ModelError, match="no .safetensors file, nor a folder"):
            read_image_lora(path, pipe)


def test_a_file_larger_than_its_model_is_refused(pipe: Any, tmp_path: Path):
    save_file({"unet.conv_in.lora_A.weight": torch.zeros(2**21)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="more than its model's"):
        read_image_lora(tmp_path / "a.safetensors", pipe)


def test_fused_projections_are_refused(saved: Path):
    built: Any = CASES["sd"].build()
    built.unet.fuse_qkv_projections()
    with pytest.raises(ModelError, match="fused projections"):
        read_image_lora(saved, built)


def test_a_pipeline_without_a_loader_takes_none(saved: Path):
    with pytest.raises(ModelError, match="diffusers has no loader for it"):
        read_image_lora(saved, CASES["pixart"].build())

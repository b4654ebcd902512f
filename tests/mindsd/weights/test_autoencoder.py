"""Which folder may decode in the place of a model's own autoencoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mindsd.errors import ModelError
from mindsd.weights.autoencoder import check_fits, find_autoencoder
from mindsd.weights.folder import find_model

TAESD: dict[str, Any] = {  # as it is published
    "_class_name": "AutoencoderTiny",
    "_diffusers_version": "0.20.0.dev0",
    "act_fn": "relu",
    "decoder_block_out_channels": [64, 64, 64, 64],
    "encoder_block_out_channels": [64, 64, 64, 64],
    "force_upcast": False,
    "in_channels": 3,
    "latent_channels": 4,
    "latent_magnitude": 3,
    "latent_shift": 0.5,
    "num_decoder_blocks": [3, 3, 3, 1],
    "num_encoder_blocks": [1, 3, 3, 3],
    "out_channels": 3,
    "scaling_factor": 1.0,
    "upsampling_scaling_factor": 2,
}
KL: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "latent_channels": 4,
    "block_out_channels": [128, 256, 512, 512],
}


def written(folder: Path, config: dict[str, Any]) -> Path:
    """A folder of this configuration; its weights are never read."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"a": torch.zeros(2)}, folder / "diffusion_pytorch_model.safetensors")
    return folder


def model(folder: Path, config: dict[str, Any] | None) -> Path:
    """A model's folder with such an autoencoder, or with none."""
    folder.mkdir()
    index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline"}
    if config is not None:
        index["vae"] = ["diffusers", config["_class_name"]]
        written(folder / "vae", config)
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize(
    ("config", "channels", "compression"),
    [
        (TAESD, 4, 8),
        ({"_class_name": "AutoencoderTiny"}, 4, 8),  # what it says nothing of is diffusers' own
        (KL, 4, 8),
        (KL | {"latent_channels": 16, "block_out_channels": [8, 8]}, 16, 2),
    ],
)
def test_it_is_seen_by_its_configuration(config, channels, compression, tmp_path):
    found = find_autoencoder(written(tmp_path / "taesd", config))
    assert (found.name, found.kind) == ("taesd", config["_class_name"])
    assert (found.channels, found.compression) == (channels, compression)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"_class_name": "ConsistencyDecoderVAE"}, "holds a ConsistencyDecoderVAE; AutoencoderKL"),
        ({}, "holds a None"),
        (KL | {"block_out_channels": "wide"}, "block_out_channels lists widths of levels"),
        (KL | {"block_out_channels": []}, "block_out_channels lists widths of levels"),
        (KL | {"latent_channels": True}, "latent_channels is a whole number, got True"),
        (TAESD | {"upsampling_scaling_factor": 3}, "cells of 8x8 pixels and 27x27 pixels of"),
    ],
)
def test_what_it_says_has_to_make_sense(config, said, tmp_path):
    refused(said, written(tmp_path / "vae", config))


def test_a_folder_that_is_none_or_not_whole_or_not_safe(tmp_path):
    refused("is no folder; an autoencoder is one that holds config.json", tmp_path / "nowhere")
    (tmp_path / "vae").mkdir()
    refused("has no config.json", tmp_path / "vae")
    (tmp_path / "vae" / "config.json").write_text("[]")
    refused("must hold a JSON object", tmp_path / "vae")
    (tmp_path / "vae" / "config.json").write_text(json.dumps(KL))
    refused("has no .safetensors weights for AutoencoderKL", tmp_path / "vae")
    written(tmp_path / "vae", KL)
    (tmp_path / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"")
    refused("is a pickle", tmp_path / "vae")


def test_a_whole_model_says_where_its_autoencoder_is(tmp_path):
    folder = model(tmp_path / "sd15", KL)
    refused(f"is a whole model; name its autoencoder: {folder / 'vae'}", folder)
    refused("it holds no autoencoder", model(tmp_path / "pixels", None))


@pytest.mark.parametrize(
    ("own", "config", "said"),
    [
        (KL | {"latent_channels": 16}, TAESD, "taesd has 4 latent channels, model needs 16"),
        (KL | {"block_out_channels": [8, 8, 8]}, TAESD, "8 pixels a side of .* model needs 4"),
        (KL, TAESD | {"out_channels": 4}, "4 channels of a pixel, model needs 3"),
        (None, TAESD, r"model has no autoencoder \(vae\)"),
        ({"_class_name": "AutoencoderKLQwenImage"}, TAESD, "its own kind, AutoencoderKLQwenImage"),
        (KL | {"shift_factor": 0.1}, KL, "centred by shift_factor, which .* does not say"),
        (KL | {"latents_mean": [0.1] * 4}, TAESD, "centred by latents_mean"),
    ],
)
def test_what_cannot_stand_for_a_models_own(own, config, said, tmp_path):
    found = find_autoencoder(written(tmp_path / "taesd", config))
    with pytest.raises(ModelError, match=said):
        check_fits(found, find_model(model(tmp_path / "model", own)))


@pytest.mark.parametrize("own", [KL, KL | {"shift_factor": 0.1}, KL | {"shift_factor": None}])
def test_what_can(own, tmp_path):
    found = find_model(model(tmp_path / "model", own))
    check_fits(find_autoencoder(written(tmp_path / "taesd", TAESD)), found)


def refused(said: str, folder: Path) -> None:
    with pytest.raises(ModelError) as error:
        find_autoencoder(folder)
    assert said in str(error.value) and len(str(error.value).splitlines()) == 1

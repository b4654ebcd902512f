"""Another autoencoder in a model's place draws what diffusers draws with it, in company, too."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    AutoPipelineForImage2Image,
    AutoPipelineForInpainting,
    AutoPipelineForText2Image,
)
from PIL import Image

from mindsd import ImageToImage, Inpaint, TextToImage
from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.image import ImagePipeline
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters
from tests.zoo.autoencoders import autoencoder, tiny_autoencoder
from tests.zoo.cases import CASES, SIDE, half_mask, picture
from tests.zoo.drawing import held, levels_apart, plain

FAMILIES = ["sd", "sdxl", "sd3", "flux"]  # the last two centre their latents
THIN = ("sd3", "Inpaint")  # diffusers inpaints with more channels than the zoo's has
SHORT = {"sd3": 16, "flux": 16}
KINDS: dict[type[ImagePipeline], tuple[Any, dict[str, Any]]] = {
    TextToImage: (AutoPipelineForText2Image, {}),
    ImageToImage: (AutoPipelineForImage2Image, {"image": picture(1)}),
    Inpaint: (AutoPipelineForInpainting, {"image": picture(1), "mask_image": half_mask()}),
}


def saved(family: str, room: Path) -> dict[str, Any]:
    """A model's folder and that of a tiny autoencoder for its latents."""
    pipe: Any = CASES[family].pipe()
    pipe.save_pretrained(room / "model")
    tiny_autoencoder(latent_channels=pipe.vae.config.latent_channels).save_pretrained(room / "tae")
    return {"model": room / "model", "vae": room / "tae"}


def wishes(family: str, pictures: Mapping[str, Image.Image]) -> list[ImageParameters]:
    """Two that may share forwards; a picture is drawn anew by nine tenths."""
    more: dict[str, Any] = {"strength": 0.9} if pictures else {"width": SIDE, "height": SIDE}
    if family in SHORT:
        more["options"] = {"max_sequence_length": SHORT[family]}
    return [ImageParameters("a cat", steps=steps, seed=steps, **more) for steps in (3, 4)]


def by_diffusers(
    folders: Mapping[str, Path], auto: Any, wish: ImageParameters, **pictures: Any
) -> torch.Tensor:
    """The plain pipeline with the same autoencoder, put in by hand."""
    pipe: Any = load_model(folders["model"], "cpu", "float32").pipe
    other = AutoencoderTiny.from_pretrained(folders["vae"])
    pipe = auto.from_pipe(type(pipe)(**{**pipe.components, "vae": other}))
    named = {"prompt": wish.prompt, "num_inference_steps": wish.steps, "strength": wish.strength}
    named |= {"width": SIDE, "height": SIDE}
    accepted = inspect.signature(type(pipe).__call__).parameters
    asked = {name: own for name, own in named.items() if name in accepted and own is not None}
    return plain(pipe, {**asked, "seed": wish.seed, **pictures, **wish.options})


FORMS = [(f, own) for f in FAMILIES for own in KINDS if (f, own.__name__) != THIN]


@pytest.mark.parametrize(("family", "kind"), FORMS)
def test_it_draws_what_diffusers_draws(family: str, kind: type[ImagePipeline], tmp_path: Path):
    auto, pictures = KINDS[kind]
    folders, wished = saved(family, tmp_path), wishes(family, pictures)
    with kind.load(**folders, device="cpu", dtype="float32") as model:
        alone = model.submit(wished[0], **pictures).result(60)
        before = model.engine.counts.forwards["image"]
        with held(model.engine):
            requests = [model.submit(one, **pictures) for one in wished]
        images = [request.result(60) for request in requests]
        decoded = model.engine.counts.forwards["image"] - before
        assert model.model.vae == "tae" and len(model.model.vae_fingerprint) == 16
    references = [by_diffusers(folders, auto, one, **pictures) for one in wished]
    assert levels_apart(alone, references[0]) == 0
    assert max(map(levels_apart, images, references)) <= 1
    if not pictures:  # they end one step apart, so each is decoded by itself
        assert decoded == 2


def test_decodes_of_one_moment_share_a_forward_and_alone_it_is_the_same_bits(tmp_path: Path):
    folders = saved("sd", tmp_path)
    loaded = load_model(**folders, device="cpu", dtype="float32")
    vae: Any = loaded.pipe.components["vae"]
    latents = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = [vae.decode(one[None]).sample for one in latents]
    with TextToImage(loaded) as model:

        def decode(one: torch.Tensor) -> Any:
            return lambda request: vae.decode(one[None]).sample

        alone = model.engine.submit(decode(latents[0])).result(60)
        before = model.engine.counts.forwards["image"]
        with held(model.engine):
            requests = [model.engine.submit(decode(one)) for one in latents]
        together = [request.result(60) for request in requests]
        assert model.engine.counts.forwards["image"] == before + 1
    assert torch.equal(alone, expected[0])
    for own, reference in zip(together, expected, strict=True):
        assert torch.allclose(own, reference, rtol=1e-5, atol=1e-5)


def test_another_of_the_models_own_class(tmp_path: Path):
    """As the one of SDXL that half precision does not overflow."""
    folders = saved("sdxl", tmp_path)
    own = load_model(folders["model"], "cpu", "float32")
    with torch.no_grad():
        changed: Any = autoencoder()
        changed.decoder.conv_out.bias.add_(0.2)
    changed.save_pretrained(tmp_path / "fixed")
    wish = ImageParameters("a cat", steps=2, seed=1, width=SIDE, height=SIDE)
    with TextToImage.load(folders["model"], vae=tmp_path / "fixed", device="cpu") as model:
        image = model.submit(wish).result(60)
        assert isinstance(model.pipe.components["vae"], AutoencoderKL)
        fixed = model.model.vae_fingerprint
        model.submit(wish, preview_every=1).result(60)
    with TextToImage(own) as model:
        assert model.model.vae == "" == model.model.vae_fingerprint
        assert model.submit(wish).result(60) != image
    with TextToImage.load(**folders, device="cpu") as model:
        assert model.model.vae_fingerprint != fixed
        assert model.model.fingerprint == own.fingerprint  # profiles go by the denoiser


def test_half_precision(tmp_path: Path):
    folders = saved("sdxl", tmp_path)
    with TextToImage.load(**folders, device="cpu", dtype="bfloat16") as model:
        vae: Any = model.pipe.components["vae"]
        assert vae.dtype == torch.bfloat16
        assert model("a cat", steps=1, width=SIDE).images[0].size == (SIDE, SIDE)


def refused(said: str, error: type[Exception] = ModelError, **folders: Any) -> None:
    with pytest.raises(error, match=said) as found:
        load_model(**folders)
    assert len(str(found.value).splitlines()) == 1


def test_what_does_not_fit_is_refused_before_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folders = saved("sd", tmp_path)
    monkeypatch.setattr("mindsd.pipelines.loading._read", None)
    tiny_autoencoder(latent_channels=16).save_pretrained(folders["vae"])
    refused("tae has 16 latent channels, model needs 4", **folders)
    refused("is no folder", model=folders["model"], vae=tmp_path / "nowhere")


def test_weights_that_are_missing_or_of_other_shapes(tmp_path: Path):
    folders = saved("sd", tmp_path)
    file = folders["vae"] / "config.json"
    config = json.loads(file.read_text())
    for name, first, said in (
        ("num_decoder_blocks", 2, "lacks 15 weights of AutoencoderTiny"),
        ("decoder_block_out_channels", 16, "tae cannot be loaded as AutoencoderTiny"),
    ):
        file.write_text(json.dumps({**config, name: [first, config[name][1]]}))
        refused(said, **folders)


def test_a_pipeline_in_memory_is_used_as_it_is(tmp_path: Path):
    pipe = CASES["sd"].pipe()
    refused("give a pipeline its autoencoder yourself", RequestError, model=pipe, vae=tmp_path)

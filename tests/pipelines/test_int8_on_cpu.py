"""`layers="int8"` for models that draw on a CPU: asked for, like the plain picture, and undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mindsd import TextToImage, accelerate
from mindsd.attention import cpu_fused, int8_layers
from mindsd.attention.int8_layers import cannot_round_layers
from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters
from mindsd.quality import psnr
from tests.zoo.cases import CASES
from tests.zoo.drawing import held, levels_apart, plain
from tests.zoo.image_lora import save_lora

HERE = cannot_round_layers("cpu", torch.float32)
pytestmark = pytest.mark.skipif(HERE is not None, reason=str(HERE))
ASKED: dict[str, Any] = {"steps": 3, "width": 64, "height": 64}
THEIRS = {"prompt": "a red circle", "num_inference_steps": 3, "width": 64, "height": 64, "seed": 7}


@pytest.fixture(params=[0, 2**40], ids=["large", "small"])
def _of_any_size(request: Any, monkeypatch: pytest.MonkeyPatch):
    """Small layers are rounded, in models that count as large (fused, too) and as small."""
    monkeypatch.setattr(cpu_fused, "SMALL_MODEL", request.param)
    monkeypatch.setattr(int8_layers, "LEAST", 16)


def one(prompt: str, seed: int) -> ImageParameters:
    return ImageParameters(prompt, seed=seed, **ASKED)


def untouched(pipe: Any) -> bool:
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    return not any("forward" in vars(own) for part in parts for own in part.modules())


def array(image: torch.Tensor) -> Any:
    return image.permute(1, 2, 0).double().numpy()


@pytest.mark.usefixtures("_of_any_size")
def test_a_loaded_model_draws_nearly_the_same_image_and_is_given_back():
    pipe = CASES["sd"].build()
    wanted = plain(pipe, THEIRS)
    with TextToImage.load(pipe, device="cpu", layers="int8") as draw:
        image = draw("a red circle", seed=7, **ASKED).images[0]
        served = draw.model.quantized["unet"].served
        assert set(draw.model.quantized) == {"unet"} and {"qconv", "qlinear"} == {*served.values()}
    assert levels_apart(image, wanted) > 0 and psnr(image, array(wanted)) > 30
    assert untouched(pipe) and torch.equal(plain(pipe, THEIRS), wanted)
    assert not draw.model.quantized


@pytest.mark.usefixtures("_of_any_size")
@pytest.mark.parametrize("name", ["sd", "sdxl", "pixart", "flux", "sd3", "sd controlnet"])
def test_an_accelerated_pipeline_draws_nearly_the_same_image(name: str):
    pipe, asked = CASES[name].build(), CASES[name].asked()[0]
    wanted = plain(pipe, asked)
    with accelerate(pipe, speed="lossless", layers="int8") as own:
        assert own.quantized
        found = plain(pipe, asked)
    assert not torch.equal(found, wanted) and psnr(array(found), array(wanted)) > 30
    assert untouched(pipe) and torch.equal(plain(pipe, asked), wanted)


def test_an_image_does_not_depend_on_its_company(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpu_fused, "SMALL_MODEL", 0)
    monkeypatch.setattr(int8_layers, "LEAST", 16)
    with TextToImage.load(CASES["sd"].build(), device="cpu", layers="int8") as draw:
        alone = draw("a red circle", seed=7, **ASKED).images[0]
        with held(draw.engine):
            requests = [draw.submit(one("a red circle", 7)), draw.submit(one("a cat", 3))]
        together = requests[0].result(60)
    assert psnr(together, alone) > 45


@pytest.mark.usefixtures("_of_any_size")
def test_adapters_are_added_to_what_is_rounded(tmp_path: Path):
    file = save_lora(CASES["sd"].build(), tmp_path, 1, ("unet",))
    drawn = []
    for layers in ("off", "int8"):
        with TextToImage.load(CASES["sd"].build(), device="cpu", layers=layers) as draw:
            draw.model.loras.add("ink", file)
            drawn.append(draw("a red circle", seed=7, loras={"ink": 0.8}, **ASKED).images[0])
            drawn.append(draw("a red circle", seed=7, **ASKED).images[0])
    assert psnr(drawn[2], drawn[0]) > 30 > psnr(drawn[1], drawn[0])


def test_it_is_never_chosen_unasked_and_refused_where_nothing_is_large():
    pipe = CASES["sd"].build()
    with TextToImage.load(pipe, device="cpu") as draw:
        assert not draw.model.quantized
    with accelerate(pipe, speed="lossless") as own:
        assert not own.quantized
    refused = "layers='int8': no layer of UNet2DConditionModel is taken: .*has a side under 320"
    with pytest.raises(RequestError, match=refused):
        TextToImage.load(pipe, device="cpu", layers="int8")
    with pytest.raises(RequestError, match=refused):
        accelerate(pipe, speed="lossless", layers="int8")
    assert untouched(pipe)
    with pytest.raises(RequestError, match="float32 and bfloat16; the model is in float16"):
        TextToImage.load(pipe.to(torch.float16), device="cpu", layers="int8")

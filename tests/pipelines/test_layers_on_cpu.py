"""A large model on a CPU is made fast when opened or accelerated, and given back as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mindsd import TextToImage, accelerate, allocator
from mindsd.allocator import counts
from mindsd.attention import cpu_fused
from mindsd.attention.registry import Registry
from mindsd.errors import RequestError
from mindsd.packed_weight import PackedWeight
from mindsd.pipelines import accelerate as acceleration
from mindsd.pipelines.fingerprint import fingerprint
from mindsd.pipelines.modules import is_accelerated
from mindsd.pipelines.parameters import ImageParameters
from tests.zoo.cases import CASES
from tests.zoo.drawing import held, levels_apart, plain
from tests.zoo.image_lora import adapted, save_lora

ASKED: dict[str, Any] = {"steps": 3, "width": 32, "height": 32}
THEIRS = {"prompt": "a red circle", "num_inference_steps": 3, "width": 32, "height": 32, "seed": 7}


@pytest.fixture(autouse=True)
def _every_model_is_large(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpu_fused, "SMALL_MODEL", 0)


def packed(pipe: Any) -> int:
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    return sum(isinstance(own, PackedWeight) for part in parts for own in part.parameters())


def one(**wishes: Any) -> ImageParameters:
    return ImageParameters("a red circle", seed=7, **ASKED, **wishes)


def test_an_opened_model_draws_the_same_image_and_is_given_back():
    pipe = CASES["sd"].build()
    wanted, known = plain(pipe, THEIRS), fingerprint(pipe)
    with TextToImage.load(pipe, device="cpu") as draw:
        image = draw("a red circle", seed=7, **ASKED).images[0]
        assert set(draw.model.on_cpu) == {"unet", "vae", "text_encoder"}
        assert packed(pipe) > 20 and draw.model.fingerprint == known
    assert levels_apart(image, wanted) <= 1
    assert not packed(pipe) and torch.equal(plain(pipe, THEIRS), wanted) and not counts()[0]


def test_an_image_does_not_depend_on_its_company():
    with TextToImage.load(CASES["sd"].build(), device="cpu") as draw:
        alone = draw("a red circle", seed=7, **ASKED).images[0]
        with held(draw.engine):
            requests = [draw.submit(one()), draw.submit(ImageParameters("a cat", seed=3, **ASKED))]
        together = torch.tensor(alone.get_flattened_data()).float() / 255
        assert levels_apart(requests[0].result(60), together.mT.reshape(3, 32, 32)) <= 1


def test_layers_off_leaves_the_model_its_own():
    pipe = CASES["sd"].build()
    with TextToImage.load(pipe, device="cpu", layers="off") as draw:
        assert not draw.model.on_cpu and not packed(pipe)
    with accelerate(pipe, speed="lossless", layers="off") as own:
        assert not own.on_cpu and not packed(pipe)
    with pytest.raises(RequestError, match="unknown layers 'fast'; choose auto, off"):
        accelerate(pipe, speed="lossless", layers="fast")


@pytest.mark.parametrize(
    "name", ["sd", "sd inpaint", "sdxl", "pixart", "flux", "sd3", "sd controlnet"]
)
def test_an_accelerated_pipeline_draws_the_same_image(name: str):
    pipe, asked = CASES[name].build(), CASES[name].asked()[0]
    wanted = plain(pipe, asked)
    with accelerate(pipe, speed="lossless"):
        assert packed(pipe)
        found = plain(pipe, asked)
    assert float((found - wanted).abs().max()) <= 1 / 255
    assert torch.equal(plain(pipe, asked), wanted)


@pytest.mark.parametrize("better", [True, False])
def test_our_attention_answers_where_it_outdoes_torchs(
    better: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Registry, "outdoes_torch", lambda *told: better)
    pipe = CASES["sd"].build()
    wanted = plain(pipe, THEIRS)
    with accelerate(pipe, speed="lossless") as own:
        found = plain(pipe, THEIRS)
        assert (own.attached is not None and own.attached.calls > 0) == better
    assert float((found - wanted).abs().max()) <= 1 / 255
    assert torch.equal(plain(pipe, THEIRS), wanted)


def test_adapters_come_and_go(tmp_path: Path):
    file = save_lora(CASES["sd"].build(), tmp_path, 1, ("unet", "text_encoder"))
    wanted = plain(adapted(CASES["sd"].build, [(file, 0.8)]), THEIRS)
    with TextToImage.load(CASES["sd"].build(), device="cpu") as draw:
        draw.add_lora("ink", file)
        inked = draw("a red circle", seed=7, loras={"ink": 0.8}, **ASKED).images[0]
        assert levels_apart(inked, wanted) <= 1
        draw.remove_lora("ink")
        assert packed(draw.model.pipe) > 20
        bare = draw("a red circle", seed=7, **ASKED).images[0]
    assert levels_apart(bare, plain(CASES["sd"].build(), THEIRS)) <= 1


def kept_packed(pipe: Any) -> int:
    found = [own for own in pipe.unet.parameters() if isinstance(own, PackedWeight)]
    return sum(own.store.packed is not None for own in found)


def test_who_asks_which_model_it_is_leaves_it_packed():
    pipe = CASES["sd"].build()
    known = fingerprint(pipe)
    with accelerate(pipe, speed="lossless"):
        before = kept_packed(pipe)
        assert before and fingerprint(pipe) == known and kept_packed(pipe) == before


@pytest.mark.parametrize("fails", ["keep_large", "follow_calls", "check"])
def test_an_acceleration_that_fails_leaves_no_trace(fails: str, monkeypatch: pytest.MonkeyPatch):
    def fail(*told: Any) -> None:
        raise MemoryError

    pipe = CASES["sd"].build()
    monkeypatch.setattr(acceleration, fails, fail)
    with pytest.raises(MemoryError):
        accelerate(pipe, speed="lossless")
    assert not packed(pipe) and not allocator._users and not is_accelerated(pipe)
    assert not any("forward" in vars(own) for own in pipe.unet.modules())

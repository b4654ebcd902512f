"""LoRAs by the pipelines' own face: added, asked for by name and weight, removed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import cache as once
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from weakref import ref

import numpy as np
import pytest
from PIL import Image

from mindsd import ImageToImage, TextToImage
from mindsd.config import Acceleration
from mindsd.errors import EngineClosed, ModelError, RequestError
from mindsd.pipelines.accelerate import accelerate
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters
from mindsd.stepcache.plan import StepCache
from mindsd.tokenmerge.plan import TokenMerge
from tests.zoo.cases import CASES, picture
from tests.zoo.drawing import held, levels_apart, plain
from tests.zoo.image_lora import adapted, save_kohya, save_lora

PARTS = ("unet", "text_encoder")
ASKED: dict[str, Any] = {"steps": 6, "width": 32, "height": 32}
THEIRS = {"prompt": "a red circle", "num_inference_steps": 6, "width": 32, "height": 32, "seed": 7}
MERGED = Acceleration(token_merge=TokenMerge(0.5))


@once
def ink() -> Path:
    return save_lora(CASES["sd"].build(), Path(mkdtemp()), 1, PARTS)


@once
def oil() -> Path:
    file = Path(mkdtemp()) / "oil.safetensors"
    return save_kohya(CASES["sd"].build(), file, 2, PARTS, lambda name: 3.0)


@pytest.fixture
def draw() -> Iterator[TextToImage]:
    with TextToImage.load(CASES["sd"].build(), device="cpu") as own:
        own.add_lora("ink", ink())
        own.add_lora("oil", oil())
        yield own


def one(**wishes: Any) -> ImageParameters:
    return ImageParameters("a red circle", seed=7, **ASKED, **wishes)


def apart(image: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(image, int) - np.asarray(other, int)).max())


def test_requests_choose_and_weigh(draw: TextToImage):
    assert draw.loras == ("ink", "oil")
    wishes: list[Any] = [{"ink": 0.8}, [["oil", 1], ["ink", -0.5]], ()]
    with held(draw.engine):
        requests = [draw.submit(one(loras=wish)) for wish in wishes]
    images = [request.result(60) for request in requests]
    chosen = [[(ink(), 0.8)], [(oil(), 1.0), (ink(), -0.5)]]
    wanted = [plain(adapted(CASES["sd"].build, own), THEIRS) for own in chosen]
    wanted.append(plain(CASES["sd"].build(), THEIRS))
    assert max(map(levels_apart, images, wanted)) <= 1
    assert draw.engine.counts.forwards["denoise"] == ASKED["steps"]
    again = draw("a red circle", seed=7, loras={"ink": 0.8}, **ASKED)
    assert levels_apart(again.images[0], wanted[0]) == 0
    assert again.parameters[0].loras == (("ink", 0.8),)


@pytest.mark.parametrize(
    "less",
    [
        Acceleration(StepCache.parse("interval:2")),
        Acceleration(StepCache.parse("skip:2,least=1")),
        Acceleration(guidance_until=0.5),
        MERGED,
    ],
    ids=["interval", "skip", "guidance", "merge"],
)
def test_less_work_beside_others_is_less_work_alone(draw: TextToImage, less: Acceleration):
    pipe = adapted(CASES["sd"].build, [(ink(), 1.0)])
    with accelerate(pipe, less):
        wanted = plain(pipe, THEIRS)
    with held(draw.engine):
        requests = [
            draw.submit(one(loras=wish, acceleration=how))
            for wish, how in (({"oil": 1}, less), ({"ink": 1}, less), ((), less), ({}, MERGED))
        ]
    images = [request.result(60) for request in requests]
    assert levels_apart(images[1], wanted) <= 2
    assert min(apart(images[1], images[place]) for place in (0, 2)) > 10


def test_all_pipelines_of_a_model_have_its_loras():
    loaded, shown = load_model(CASES["sd"].build(), "cpu"), picture(1)
    draw, redraw = TextToImage(loaded), ImageToImage(loaded)
    redraw.add_lora("ink", ink())
    assert draw.loras == ("ink",)
    before, after = (
        redraw("a cat", shown, steps=3, seed=0, loras=own).images[0] for own in ((), {"ink": 1})
    )
    assert apart(before, after) > 10
    draw.close()
    with pytest.raises(EngineClosed):
        draw.add_lora("oil", oil())
    redraw.close()
    with TextToImage(loaded) as again:  # opened anew it has none
        assert again.loras == ()
        again.add_lora("ink", ink())
        image = again.submit(one(loras={"ink": 0.8})).result(60)
    wanted = plain(adapted(CASES["sd"].build, [(ink(), 0.8)]), THEIRS)
    assert levels_apart(image, wanted) == 0


def test_after_closing_the_pipeline_is_as_it_was():
    pipe: Any = CASES["sd"].build()
    with TextToImage.load(pipe, device="cpu") as draw:
        draw.add_lora("ink", ink())
        image = draw.submit(one()).result(60)
    reference = plain(CASES["sd"].build(), THEIRS)
    assert levels_apart(image, reference) == 0
    assert (plain(pipe, THEIRS) == reference).all()
    assert not any("forward" in vars(module) for module in pipe.unet.modules())


def test_an_own_call_alone_has_them_too(draw: TextToImage):
    """Options that change what others share make a request run by itself, past all forwards."""
    scale = {"cross_attention_kwargs": {"scale": 1.0}}
    request = draw.submit(one(loras={"ink": 0.8}, options=scale))
    wanted = plain(adapted(CASES["sd"].build, [(ink(), 0.8)]), THEIRS)
    assert levels_apart(request.result(60), wanted) == 0


def test_one_that_is_used_is_not_removed(draw: TextToImage):
    with held(draw.engine):
        request = draw.submit(one(loras={"ink": 0.8}))
        with pytest.raises(RequestError, match="LoRA 'ink' is in use by 1 request; wait, or"):
            draw.remove_lora("ink")
    request.result(60)
    draw.remove_lora("ink")
    assert draw.loras == ("oil",)


def test_what_is_not_there_is_refused_by_name(draw: TextToImage):
    with pytest.raises(RequestError, match="there is no LoRA 'inkk'; did you mean 'ink'"):
        draw.submit(one(loras={"inkk": 1}))
    with pytest.raises(RequestError, match="a LoRA's name is a text on one line"):
        draw.add_lora("", ink())
    with pytest.raises(RequestError, match="there is a LoRA 'ink' already"):
        draw.add_lora("ink", ink())
    with pytest.raises(ModelError, match="no .safetensors file"):
        draw.add_lora("other", ink() / "nowhere")
    assert draw.loras == ("ink", "oil")


@pytest.mark.parametrize(
    ("loras", "said"),
    [
        ("ink", "pairs of a name and a weight, got 'ink'"),
        (5, "pairs of a name and a weight, got 5"),
        (["ink"], "pairs of a name and a weight, got 'ink'"),
        ([("ink", 1, 2)], "pairs of a name and a weight"),
        ([(1, 1)], "pairs of a name and a weight"),
        ({"ink": None}, "weight of LoRA 'ink' must be a finite number, got None"),
        ({"ink": "1"}, "must be a finite number, got '1'"),
        ({"ink": True}, "must be a finite number, got True"),
        ({"ink": float("nan")}, "must be a finite number, got nan"),
        ({"ink": 10.5}, "weight of LoRA 'ink' must be -10 to 10, got 10.5"),
        ([("ink", 1), ("ink", 2)], "LoRA 'ink' is named twice"),
        ([(f"l{i}", 1) for i in range(17)], "17 LoRAs are more than 16"),
    ],
)
def test_wishes_are_checked_when_made(loras: Any, said: str):
    with pytest.raises(RequestError, match=said):
        one(loras=loras)


def test_an_adapter_keeps_no_image_that_was_drawn_with_it(draw: TextToImage):
    request = draw.submit(one(loras={"ink": 1.0}))
    image = ref(request.result())
    del request
    gc.collect()
    assert image() is None

"""SDXL's autoencoder works in float32 for some, and nobody's computation changes under another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline

from mindsd import ImageToImage, TextToImage
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.precision import Precisions, upcast_copy
from tests.zoo.cases import CASES, PROMPTS, SIDE, picture
from tests.zoo.drawing import held, levels_apart, plain
from tests.zoo.sdxl import sdxl

SIZE: dict[str, Any] = {"width": SIDE, "height": SIDE}
HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
PAIRS = tuple(enumerate(PROMPTS))
LEVELS = 6  # of 256: half precision in batches of other sizes


def half_sdxl(dtype: torch.dtype) -> Any:
    pipe = sdxl().to(dtype)
    assert pipe.vae.config.force_upcast
    return pipe


@HALVES
def test_text_and_picture_to_image_at_once(dtype: torch.dtype):
    pipe = half_sdxl(dtype)
    redraw = StableDiffusionXLImg2ImgPipeline.from_pipe(pipe, torch_dtype=dtype)
    asked = [
        {"prompt": text, "seed": i, "num_inference_steps": 3} for i, text in enumerate(PROMPTS)
    ]
    changed = [{**one, "image": picture(1), "strength": 0.7} for one in asked]
    drawn = [plain(pipe, {**one, **SIZE}) for one in asked]
    redrawn = [plain(redraw, one) for one in changed]
    assert pipe.vae.dtype == dtype
    wished = [ImageParameters(one["prompt"], steps=3, seed=one["seed"], **SIZE) for one in asked]
    rewished = [ImageParameters(w.prompt, steps=3, seed=w.seed, strength=0.7) for w in wished]
    model = load_model(pipe, attention="off")  # ours rounds otherwise
    with TextToImage(model) as draw, ImageToImage(model) as again:
        alone = draw.submit(wished[0]).result(60)
        alone_again = again.submit(rewished[0], image=picture(1)).result(60)
        with held(draw.engine):
            requests = [draw.submit(one) for one in wished]
            requests += [again.submit(one, image=picture(1)) for one in rewished]
        images = [request.result(60) for request in requests]
        counts = draw.engine.counts
        assert counts.forwards["image"] < counts.rows["image"]
    assert levels_apart(alone, drawn[0]) == 0
    assert levels_apart(alone_again, redrawn[0]) == 0
    assert max(map(levels_apart, images, [*drawn, *redrawn])) <= LEVELS
    assert pipe.vae.dtype == dtype


def test_a_copy_is_made_only_where_it_is_needed():
    assert upcast_copy(sdxl()) is None
    assert upcast_copy(CASES["sd"].build().to(torch.float16)) is None  # SD 1.5 moves nothing
    copy: Any = upcast_copy(half_sdxl(torch.float16))
    assert copy.dtype == torch.float32


def test_a_stand_in_only_chooses():
    pipe = half_sdxl(torch.float16)
    upcast = upcast_copy(pipe)
    vae = Precisions(pipe.vae, upcast)
    assert isinstance(vae, type(pipe.vae)) and vae.dtype == torch.float16
    assert vae.to(dtype=torch.float32) is vae and vae.dtype == torch.float32
    assert vae.decode.__self__ is upcast and pipe.vae.dtype == torch.float16
    assert vae.to(torch.float16).dtype == torch.float16
    with pytest.raises(NotImplementedError, match="cannot move to"):
        vae.to("meta")

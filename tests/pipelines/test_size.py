"""Sizes: asked, completed, or refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.size import largest_side, native_size, size_step, sized
from tests.zoo.cases import CASES


def size(family: str, given: tuple[int, int] | None = None, **asked: Any) -> tuple[Any, Any]:
    whole = sized(CASES[family].pipe(), family, ImageParameters("a cat", **asked), given)
    return whole.width, whole.height


@pytest.mark.parametrize(
    ("asked", "given", "size_of_image"),
    [
        ({"width": 64}, None, (64, 64)),
        ({"height": 64}, None, (64, 64)),
        ({"width": 64, "height": 96}, (32, 32), (64, 96)),
        ({}, (40, 48), (40, 48)),
        ({"width": 64}, (32, 48), (64, 96)),
        ({"height": 64}, (128, 32), (256, 64)),
        ({"width": 64}, (1000, 8), (64, 8)),
    ],
)
def test_sides_that_are_left_out(asked: Any, given: Any, size_of_image: tuple[int, int]):
    assert size("sd", given, **asked) == size_of_image


def test_without_any_side_the_models_own_size_is_drawn():
    pipe: Any = CASES["sd"].pipe()
    native = pipe.unet.config.sample_size * pipe.vae_scale_factor
    assert size("sd") == (native, native) == (native_size(pipe),) * 2


@pytest.mark.parametrize("family", ["flux", "qwen-image"])
def test_packed_families_draw_pairs_of_cells(family: str):
    pipe: Any = CASES[family].pipe()
    assert size_step(pipe) == max(8, 2 * pipe.vae_scale_factor)


def test_a_model_without_an_autoencoder_draws_pixels():
    unet = SimpleNamespace(config=SimpleNamespace(sample_size=64))
    assert native_size(SimpleNamespace(unet=unet)) == 64
    assert native_size(SimpleNamespace(unet=unet, movq=None, vae_scale_factor=8)) == 512


class TakesNoSize:
    unet = SimpleNamespace(config=SimpleNamespace(sample_size=64))

    def __call__(self, prompt: str) -> None: ...


def test_a_size_that_the_pipeline_cannot_be_told_is_refused():
    pipe: Any = TakesNoSize()
    assert sized(pipe, "own", ImageParameters("a cat")).width == 64
    assert sized(pipe, "own", ImageParameters("a cat", width=64)).height == 64
    with pytest.raises(RequestError, match="takes no size: it draws 64x64; leave the size out"):
        sized(pipe, "own", ImageParameters("a cat", width=128))


def test_a_size_beyond_the_models_positions_is_refused():
    pipe: Any = CASES["sd3"].pipe()
    most = largest_side(pipe)
    assert most is not None
    config = pipe.transformer.config
    assert most == config.pos_embed_max_size * config.patch_size * pipe.vae_scale_factor
    assert size("sd3", width=most, height=most) == (most, most)
    with pytest.raises(RequestError, match=f"{most}x{most} pixels at most"):
        size("sd3", width=2 * most, height=most)
    assert largest_side(CASES["sd"].pipe()) is None

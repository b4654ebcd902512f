"""What does not fit in memory whole is decoded in tiles, as diffusers' own tiling does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from mindsd import ImageToImage, TextToImage, device
from mindsd.errors import OutOfMemory, RequestError
from mindsd.pipelines.arguments import Arguments
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.tiles import tile_share, tile_side
from mindsd.request import Notice, Request
from mindsd.wrap import wrap
from tests.zoo.cases import CASES
from tests.zoo.drawing import held, levels_apart, plain

SIDE, TILE = 64, 16  # pixels of an image, latent cells of a tile; a cell is 2x2 pixels
TILES = 9  # of an image, with overlap
SIZE: dict[str, Any] = {"width": SIDE, "height": SIDE}
CASE = CASES["sd"]
ASKED = ImageParameters("a cat", steps=2, seed=3, **SIZE)
CALL: dict[str, Any] = {"prompt": "a cat", "num_inference_steps": 2, "seed": 3, **SIZE}
SAID = f"it is decoded in tiles of {2 * TILE}x{2 * TILE} pixels, for "


def room_for(cells: int) -> Callable[..., Any]:
    """A decoder that has memory for one image of so many latent cells a side."""

    def run(original: Callable[..., Any], sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if sample.shape[-1] > cells:
            raise torch.OutOfMemoryError(f"{sample.shape[-1]} cells")
        return original(sample, *args, **kwargs)

    return run


@contextmanager
def tiled(pipe: Any) -> Iterator[None]:
    """diffusers' own tiling."""
    before = pipe.vae.tile_latent_min_size, pipe.vae.tile_sample_min_size
    pipe.vae.tile_latent_min_size, pipe.vae.tile_sample_min_size = TILE, 2 * TILE
    pipe.vae.enable_tiling()
    yield
    pipe.vae.disable_tiling()
    pipe.vae.tile_latent_min_size, pipe.vae.tile_sample_min_size = before


def told(request: Request) -> list[str]:
    return [event.text for event in request.events() if isinstance(event, Notice)]


def test_it_is_diffusers_own_tiling_and_the_request_is_told():
    pipe: Any = CASE.pipe()
    pipe.vae.tile_latent_min_size = 5  # who set it himself finds it so again
    whole = plain(pipe, CALL)
    with tiled(pipe):
        want = plain(pipe, CALL)
    assert (want - whole).abs().max() > 1e-3  # norms see tiles: there is something to tell
    with wrap(pipe.vae.decoder, "forward", room_for(TILE)), TextToImage.load(pipe) as draw:
        request = draw.submit(ASKED)
        assert levels_apart(request.result(60), want) <= 1
        assert [text for text in told(request) if text.startswith(SAID + "memory ran out")]
    assert not pipe.vae.use_tiling and pipe.vae.tile_latent_min_size == 5
    assert torch.equal(plain(pipe, CALL), whole)


def test_what_fits_is_decoded_whole():
    pipe = CASE.pipe()
    with TextToImage.load(pipe) as draw:
        request = draw.submit(ASKED)
        assert levels_apart(request.result(60), plain(CASE.pipe(), CALL)) <= 1
        assert told(request) == []


def test_tiles_of_several_requests_share_forwards():
    pipe: Any = CASE.pipe()
    with tiled(pipe):
        wants = [plain(pipe, {**CALL, "seed": seed}) for seed in (3, 4)]
    with wrap(pipe.vae.decoder, "forward", room_for(TILE)), TextToImage.load(pipe) as draw:
        with held(draw.engine):
            asked = [ImageParameters("a cat", steps=2, seed=seed, **SIZE) for seed in (3, 4)]
            requests = [draw.submit(one) for one in asked]
        for request, want in zip(requests, wants, strict=True):
            assert levels_apart(request.result(60), want) <= 1
        assert draw.engine.counts.forwards["image"] == TILES


def test_a_tile_that_does_not_fit_either_is_an_error():
    pipe: Any = CASE.pipe()
    with wrap(pipe.vae.decoder, "forward", room_for(TILE - 1)), TextToImage.load(pipe) as draw:
        with pytest.raises(OutOfMemory, match="even alone"):
            draw.submit(ASKED).result(60)


def test_a_small_picture_is_not_cut():
    pipe: Any = CASE.pipe()
    small = ImageParameters("a cat", steps=2, width=2 * TILE, height=2 * TILE)
    with wrap(pipe.vae.decoder, "forward", room_for(TILE - 1)), TextToImage.load(pipe) as draw:
        request = draw.submit(small)
        with pytest.raises(OutOfMemory, match="even alone"):
            request.result(60)
        assert told(request) == []


def test_another_error_is_none_of_memory():
    pipe: Any = CASE.pipe()

    def break_down(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("a bug")

    with wrap(pipe.vae.decoder, "forward", break_down), TextToImage.load(pipe) as draw:
        with pytest.raises(ZeroDivisionError, match="a bug"):
            draw.submit(ASKED).result(60)


def test_an_autoencoder_without_tiles_of_ours_goes_on_to_fail():
    pipe: Any = CASES["qwen-image"].pipe()

    def run_out(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("a decode")

    with wrap(pipe.vae, "decode", run_out), TextToImage.load(pipe) as draw:
        request = draw.submit(ImageParameters("a cat", steps=2, **SIZE))
        with pytest.raises(OutOfMemory, match="even alone"):
            request.result(60)


def test_where_a_cpu_has_less_than_it_takes_it_is_not_tried(monkeypatch: pytest.MonkeyPatch):
    pipe: Any = CASE.pipe()
    with tiled(pipe):
        want = plain(pipe, CALL)
    with wrap(pipe.vae.decoder, "forward", room_for(TILE)), TextToImage.load(pipe) as draw:
        whole = Arguments(pipe, "sd").memory(ASKED, 2**40)
        monkeypatch.setattr(device, "cpu_memory", lambda: (2**40, whole - 1))
        request = draw.submit(ASKED)
        assert levels_apart(request.result(60), want) <= 1
        [text] = told(request)
        assert text.startswith(SAID + "the whole needs about 0.0 GiB and 0.0 are free")
        monkeypatch.setattr(device, "cpu_memory", lambda: (2**40, whole // 4 - 1))
        with pytest.raises(OutOfMemory, match="a decode in tiles needs about"):
            draw.submit(ASKED).result(60)


@pytest.mark.parametrize("size", [(72, 72), (136, 64), (64, 104), (120, 120)])
def test_pictures_of_any_size_come_out_whole(size: tuple[int, int]):
    pipe: Any = CASE.pipe()
    width, height = size
    asked = ImageParameters("a cat", steps=2, seed=3, width=width, height=height)
    side = tile_side(height // 2, width // 2)
    with wrap(pipe.vae.decoder, "forward", room_for(side)), TextToImage.load(pipe) as draw:
        request = draw.submit(asked)
        assert request.result(60).size == size
        assert [text for text in told(request) if "in tiles of" in text]


def test_a_tile_is_a_part_of_the_whole_in_steps():
    assert [tile_side(*own) for own in ((64, 64), (66, 66), (20, 130), (10, 10))] == [
        32,
        36,
        68,
        16,
    ]
    assert tile_share(64, 64) == 1 / 4 and tile_share(16, 64) == 1 / 2 and tile_share(8, 8) == 1


def test_a_picture_that_is_read_must_fit_whole():
    pipe = CASE.pipe()
    plain_one, redraws = Arguments(pipe, "sd"), Arguments(ImageToImage._suitable(pipe), "sd")
    whole = plain_one.memory(ASKED, 2**40)
    assert plain_one.memory(ASKED, whole // 4) == whole
    with pytest.raises(RequestError, match="64x64 needs about"):
        redraws.memory(ASKED, whole - 1)


def test_the_autoencoder_that_sdxl_moves_to_float32():
    pipe: Any = CASES["sdxl"].pipe().to(torch.bfloat16)
    assert pipe.vae.config.force_upcast
    with tiled(pipe):
        want = plain(pipe, CALL)
    with wrap(pipe.vae.decoder, "forward", room_for(TILE)), TextToImage.load(pipe) as draw:
        upcast: Any = draw.model._upcast
        with wrap(upcast.decoder, "forward", room_for(TILE)):
            request = draw.submit(ASKED)
            assert levels_apart(request.result(60), want) <= 6  # half precision in other batches
            assert len(told(request)) == 1


def test_what_is_refused_is_what_does_not_fit_in_tiles():
    asked = ImageParameters("a cat", **SIZE)
    tiles, none = (Arguments(CASES[name].pipe(), name) for name in ("sd", "qwen-image"))
    whole = tiles.memory(asked, 2**40)
    assert tiles.memory(asked, whole // 4) == whole
    with pytest.raises(RequestError, match="64x64 needs about"):
        tiles.memory(asked, whole // 4 - 1)
    whole = none.memory(asked, 2**40)
    with pytest.raises(RequestError, match="64x64 needs about"):
        none.memory(asked, whole - 1)

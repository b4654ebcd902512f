"""Z-Image's rows are padded to their neighbours' length; what is kept of a row is its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mindsd.batching.call import Batchable, Call, read
from mindsd.batching.stack import Listed, take
from mindsd.errors import RequestError
from mindsd.stepcache.denoiser import split
from mindsd.stepcache.split import Split, distance
from mindsd.stepcache.zimage import ZImageSplit
from tests.zoo.z_image import z_image

TEXTS = (40, 5)  # tokens of each row's text: padded to 64 and 32
IMAGE = 16  # tokens of an image of 8 by 8 cells


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def asked(sides: tuple[int, int] = (8, 8)) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "x": [noise(4, 1, side, side) for side in sides],
        "t": torch.tensor([0.5, 0.7]),
        "cap_feats": [noise(length, 32) for length in TEXTS],
        "return_dict": False,
    }


def taken_apart() -> tuple[Any, Split, Call]:
    module: Any = z_image().transformer
    own = split(module)
    assert isinstance(own, ZImageSplit)
    call = read(Batchable(module.forward, "denoise"), (), asked())
    assert call is not None
    return module, own, call


def test_it_comes_apart_and_together_again():
    module, own, call = taken_apart()
    plain = module(**asked())[0]
    result, deep = own.whole(call.run)
    assert all(torch.equal(a, b) for a, b in zip(result[0], plain, strict=True))
    assert isinstance(result[0], Listed) and deep.shape == (2, IMAGE, 32)
    assert distance(own.shallow(call.run, deep), result) < 0.01
    assert distance(own.shallow(call.run, torch.zeros_like(deep)), result) > 10
    assert own.probe(call.run).shape == (2, IMAGE, 32)
    own.remove()
    assert "forward" not in vars(module)


@pytest.mark.parametrize("place", [0, 1])
def test_a_row_keeps_its_own_value_however_long_its_neighbours_are(place: int):
    module, own, call = taken_apart()
    _, deep = own.whole(call.run)
    alone = take(call, [place])
    expected, kept = own.whole(alone.run)
    assert torch.allclose(kept[0], deep[place], atol=1e-4)
    assert distance(own.shallow(alone.run, deep[place : place + 1]), expected) < 0.05
    assert distance(own.shallow(alone.run, deep[1 - place :][:1]), expected) > 1


def test_rows_of_several_sizes_are_refused_by_name():
    module, own, _ = taken_apart()
    with pytest.raises(RequestError, match=r"differ in size: \[\(1, 8, 8\), \(1, 12, 12\)\]"):
        own.whole(lambda: module(**asked((8, 12))))


def test_rows_of_several_images_are_refused_by_name():
    module, own, _ = taken_apart()
    several = asked() | {"x": [[image, image] for image in asked()["x"]]}
    with pytest.raises(RequestError, match="its rows have several images each"):
        own.whole(lambda: module(**several))

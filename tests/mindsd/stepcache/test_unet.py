"""What a UNet's shallow pass takes fresh, and UNets that do not come apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from mindsd.errors import ModelError, RequestError
from mindsd.stepcache.split import distance
from mindsd.stepcache.unet import UNetSplit
from tests.zoo.unets import DEEP, UNET, controls, sample
from tests.zoo.weights import grow

DOWN, MID = "down_block_additional_residuals", "mid_block_additional_residual"


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def unet(config: dict[str, Any] = UNET) -> Any:
    return grow(UNet2DConditionModel, **config)


def asked(**more: Any) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return sample() | controls() | more | {"return_dict": False}


def test_the_residual_of_the_shallow_part_is_fresh():
    """Of all that a ControlNet adds, the last layer alone reads the first skip's."""
    model = unet()
    own = UNetSplit(model)
    _, deep = own.whole(lambda: model(**asked()))
    first, *others = asked()[DOWN]
    changed = asked(**{DOWN: (first * -3, *others)})
    expected = model(**changed)[0]
    assert torch.equal(own.shallow(lambda: model(**changed), deep)[0], expected)
    assert distance(model(**asked())[0], expected) > 100


def test_residuals_of_the_deep_part_are_those_that_were_kept():
    model = unet()
    own = UNetSplit(model)
    result, deep = own.whole(lambda: model(**asked()))
    first, *others = asked()[DOWN]
    changed = asked(**{DOWN: (first, *(own * -3 for own in others)), MID: asked()[MID] * -3})
    assert torch.equal(own.shallow(lambda: model(**changed), deep)[0], result[0])
    assert distance(model(**changed)[0], result[0]) > 100


def test_a_unet_without_a_seam():
    flat = {"block_out_channels": (16,), "down_block_types": ("DownBlock2D",)}
    with pytest.raises(ModelError, match="fewer than two up blocks"):
        UNetSplit(unet(UNET | flat | {"up_block_types": ("UpBlock2D",)}))


def free(config: dict[str, Any]) -> Any:
    """A whole pass with FreeU on."""
    model = unet(config)
    model.enable_freeu(s1=0.6, s2=0.4, b1=1.1, b2=1.2)
    one = sample()
    return UNetSplit(model).whole(lambda: model(**one))


def test_freeu_on_the_last_block_is_refused_by_name():
    """There it would change the value once more; on three levels it ends above the seam."""
    with pytest.raises(RequestError, match="no step cache for UNet2DConditionModel: its deep"):
        free(UNET)
    free(DEEP)

"""Patch embeddings as products: equal to the convolution, on nothing else, and taken off again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mindsd.patches import Patches, is_patch_embedding


def embedding(**more) -> nn.Conv3d:
    torch.manual_seed(0)
    given = {"kernel_size": (2, 4, 4), "stride": (2, 4, 4), **more}
    return nn.Conv3d(3, 8, **given)


@pytest.mark.parametrize("bias", [True, False])
def test_patches_that_come_one_by_one_are_a_product(bias):
    model = nn.Sequential(embedding(bias=bias))
    patches = torch.randn(7, 3, 2, 4, 4)
    expected = model(patches)
    product = Patches(model)
    assert product.names == ["0"]
    found = model(patches)
    assert found.shape == expected.shape == (7, 8, 1, 1, 1)
    assert torch.allclose(found, expected, atol=1e-6) and not torch.equal(found, expected + 1)
    product.remove()
    product.remove()
    assert torch.equal(model(patches), expected)


def test_whole_pictures_go_through_the_convolution():
    model = nn.Sequential(embedding())
    video = torch.randn(1, 3, 4, 8, 8)
    expected = model(video)
    Patches(model)
    assert torch.equal(model(video), expected) and expected.shape == (1, 8, 2, 2, 2)


@pytest.mark.parametrize(
    "module",
    [
        embedding(stride=(1, 4, 4)),
        embedding(padding=1),
        nn.Conv3d(4, 8, (2, 4, 4), (2, 4, 4), groups=2),
        embedding(kernel_size=(2, 2, 2), stride=(2, 2, 2), dilation=2),
        nn.Conv2d(3, 8, 4, 4),
        nn.Linear(4, 4),
    ],
)
def test_nothing_else_is_touched(module):
    assert not is_patch_embedding(module)
    assert Patches(nn.Sequential(module)).names == []

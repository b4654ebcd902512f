"""What a model will not read is said, though the image is drawn."""

from __future__ import annotations

from typing import Any

import pytest

from mindsd import TextToImage
from mindsd.pipelines.notices import notices
from mindsd.pipelines.parameters import ImageParameters
from tests.zoo.cases import CASES

FLUX = "not read at guidance 1; it takes options true_cfg_scale above 1"


@pytest.mark.parametrize(
    ("family", "wishes", "said"),
    [
        ("sd", {"guidance": 1.0}, ["not read at guidance 1; it takes guidance above 1"]),
        ("sd", {"guidance": 2.0}, []),
        ("sd", {}, []),
        ("flux", {}, [FLUX]),
        (
            "flux",
            {"guidance": 7.0},
            [FLUX],
        ),
        ("flux", {"options": {"true_cfg_scale": 3.0}}, []),
        ("qwen-image", {}, []),
        ("qwen-image", {"guidance": 1.0}, ["not read at guidance 1; it takes guidance above 1"]),
        ("z-image", {"guidance": 0.0}, ["not read at guidance 0"]),
        ("z-image", {"guidance": 1.0}, []),  # its own rule is above 0
    ],
)
def test_a_negative_prompt_that_is_not_read(family: str, wishes: dict[str, Any], said: list[str]):
    with TextToImage.load(CASES[family].pipe(), device="cpu") as model:
        asked = ImageParameters("a cat", negative_prompt="a dog", **wishes)
        told = notices(model.arguments, asked)
        assert len(told) == len(said) and all(s in t for s, t in zip(said, told, strict=True))
        assert notices(model.arguments, ImageParameters("a cat", **wishes)) == []


def test_a_prompt_longer_than_the_model_reads():
    with TextToImage.load(CASES["sd"].pipe(), device="cpu") as model:
        (told,) = notices(model.arguments, ImageParameters("a cat " * 40))
    assert "the prompt has" in told and "reads only" in told

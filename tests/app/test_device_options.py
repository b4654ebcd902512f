"""What --device, --dtype and --layers take is what the floors below take, in their words."""

from __future__ import annotations

import pytest
import torch

from mindsd.app.device_options import (
    DEVICES,
    DTYPES,
    IMAGE_LAYERS,
    LANGUAGE_LAYERS,
    SERVED_LAYERS,
    check_words,
)
from mindsd.attention import layers
from mindsd.attention.layers import check_layers
from mindsd.device import find_device
from mindsd.errors import RequestError
from mindsd.pipelines.language_model import load_language
from mindsd.pipelines.loading import load_model


def said(function, *arguments) -> str:
    with pytest.raises(RequestError) as refused:
        function(*arguments)
    return str(refused.value)


def test_layers_are_those_that_can_be_wished():
    assert IMAGE_LAYERS == layers.IMAGE_LAYERS and SERVED_LAYERS == layers.SERVED_LAYERS
    assert LANGUAGE_LAYERS == layers.LANGUAGE_LAYERS
    for words in (IMAGE_LAYERS, LANGUAGE_LAYERS, SERVED_LAYERS):
        for word in words:
            check_words("auto", "auto", word, words)


@pytest.mark.parametrize(
    ("word", "words"),
    [("wibble", IMAGE_LAYERS), ("wibble", LANGUAGE_LAYERS), ("compiled", LANGUAGE_LAYERS)],
)
def test_a_word_is_refused_as_the_floor_below_does(word: str, words: tuple[str, ...]):
    below = said(check_layers, word, "cpu", torch.float32, words)
    assert said(check_words, "auto", "auto", word, words) == below


def test_a_device_and_a_dtype_are_refused_as_the_floor_below_does():
    assert said(check_words, "abacus", "auto", "auto", IMAGE_LAYERS) == said(find_device, "abacus")
    own = said(check_words, "auto", "int3", "auto", IMAGE_LAYERS)
    assert own == said(load_model, "tiny-sd", "cpu", "int3")
    assert own == said(load_language, "tiny-vlm", "cpu", "int3")
    for device in DEVICES:
        for dtype in DTYPES:
            check_words(device, dtype, "auto", IMAGE_LAYERS)

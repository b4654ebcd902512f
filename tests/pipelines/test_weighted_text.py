"""One encoder through compel: odd words, odd precisions, and its limits."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mindsd import TextToImage
from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.weighting import suggests_weighting
from tests.pipelines.test_text_to_image import parameters
from tests.zoo.cases import CASES
from tests.zoo.drawing import levels_apart, plain
from tests.zoo.encoders import WIDTH
from tests.zoo.prompts import SHORT, SQUARE, embeds, encoded
from tests.zoo.stable_diffusion import stable_diffusion
from tests.zoo.tokenizers import CLIP_LENGTH


def test_learned_words_of_several_tokens():
    pipe = stable_diffusion()
    vectors = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(5))
    pipe.load_textual_inversion({"<toy>": vectors}, token="<toy>")
    asked = {"prompt": "a <toy>", "num_inference_steps": 2, "seed": 0, **SQUARE}
    with TextToImage.load(pipe, device="cpu") as model:
        image = model.submit(replace(parameters(asked), weighted=True)).result(60)
    assert levels_apart(image, plain(pipe, asked)) == 0
    one, other = (encoded(pipe, f"a (<toy>:{w})")["prompt_embeds"] for w in (1, 1.5))
    changed = (one != other).any(dim=-1)[0].nonzero().flatten().tolist()
    assert changed == [2, 3, 4]  # after the beginning and "a"


def test_half_precision():
    """Factors of words with no weight are beyond float16: two of them must not overflow."""
    pipe = CASES["sd"].build().to(dtype=torch.bfloat16)
    found = encoded(pipe, "(a:0) (red:0) circle")
    assert found["prompt_embeds"].dtype == torch.bfloat16
    assert found["prompt_embeds"].isfinite().all()


def test_what_t5_does_not_read_is_said():
    said: list[str] = []
    encoded(CASES["flux"].pipe(), "a red circle or two", said=said, options=SHORT["flux"])
    assert said == ["text_encoder_2 reads only 15 of the prompt's 20 tokens"]
    encoded(CASES["flux"].pipe(), "a (red) circle", said=said, options=SHORT["flux"])
    assert len(said) == 1


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a cat, " * 100, "the prompt fills .* windows of 22 tokens; 16 are the most"),
        ("a BREAK " * 20, "the prompt fills 20 windows"),
        ("(a:0.5) b " * 100, "100 parts .* below 1, which takes .* of text_encoder; 256 are"),
    ],
)
def test_prompts_of_too_many_forwards(prompt: str, said: str):
    with TextToImage.load(CASES["sd"].pipe(), device="cpu") as model:
        request = model.submit(ImageParameters(prompt, steps=1, **SQUARE, weighted=True))
        with pytest.raises(RequestError, match=said):
            request.result(60)
        assert not model.engine.counts.forwards


def test_without_the_library(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "compel", None)
    with TextToImage.load(CASES["sd"].pipe(), device="cpu") as model:
        assert not suggests_weighting(model.arguments, ImageParameters("a (cat)"))
        with pytest.raises(RequestError, match=r"pip install 'mindsd\[prompt\]'"):
            model.submit(ImageParameters("a cat", **SQUARE, weighted=True))
        model.submit(ImageParameters("a (cat)", steps=1, **SQUARE)).result(60)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*"()[] .,!", "cat", "é", "BREAK ", ":0.5)", ":2)"])))
def test_any_text_is_encoded_or_refused(pieces: list[str]):
    try:
        found = embeds("sdxl", "".join(pieces))
    except RequestError:
        return
    assert found.isfinite().all() and found.shape[1] % CLIP_LENGTH == 0

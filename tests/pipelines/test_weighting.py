"""Weighted prompts: with nothing weighted they are the plain ones, and weights do what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mindsd import TextToImage
from mindsd.errors import RequestError
from mindsd.pipelines.arguments import Arguments
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.weighting import suggests_weighting
from tests.pipelines.test_text_to_image import parameters
from tests.zoo.cases import CASES
from tests.zoo.drawing import levels_apart, plain
from tests.zoo.prompts import FAMILIES, LONG, SHORT, SQUARE, WINDOWED, embeds, encoded
from tests.zoo.tokenizers import CLIP_LENGTH


@pytest.mark.parametrize("family", [*FAMILIES, "sd controlnet"])
@pytest.mark.parametrize("wishes", [{}, {"negative_prompt": "a blue one"}, {"guidance": 1.0}])
def test_without_weights_it_is_the_plain_image(family: str, wishes: dict[str, Any]):
    pipe, call = CASES[family].pipe(), CASES[family].asked()[0]
    asked = replace(parameters(call), **wishes, weighted=True)
    call |= {"guidance_scale" if own == "guidance" else own: wishes[own] for own in wishes}
    if family == "flux" and "negative_prompt" in wishes:
        call["true_cfg_scale"] = 3.0
        asked = replace(asked, options={**asked.options, "true_cfg_scale": 3.0})
    with TextToImage.load(pipe, device="cpu") as model:
        image = model.submit(asked).result(60)
    assert levels_apart(image, plain(pipe, call)) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_without_weights_they_are_the_plain_embeddings(family: str):
    pipe: Any = CASES[family].pipe()
    options = SHORT.get(family, {})
    both = {"prompt": "a red circle", "prompt_2": None, "prompt_3": None}
    taken = {name: both[name] for name in both if name in Arguments(pipe, "zoo").accepted}
    taken |= {} if family == "flux" else {"do_classifier_free_guidance": False}
    with torch.no_grad():
        reference = pipe.encode_prompt(**taken, **options, device="cpu", num_images_per_prompt=1)
    found = encoded(pipe, "a (red:1.0) circle", options=options, guidance=1.0)
    assert torch.equal(found["prompt_embeds"], reference[0])
    if family != "sd":
        assert torch.equal(found["pooled_prompt_embeds"], reference[1 if family == "flux" else 2])
    assert not any(name.startswith("negative") for name in found)


@pytest.mark.parametrize("family", FAMILIES)
def test_more_weight_moves_further(family: str):
    usual = embeds(family, "a red circle")

    def moved(weight: float) -> float:
        return (embeds(family, f"a (red:{weight}) circle") - usual).norm().item()

    up, down = [moved(w) for w in (1, 1.1, 1.5, 2, 4)], [moved(w) for w in (1, 0.8, 0.5, 0.2, 0)]
    for distances in (up, down):
        assert distances[0] == 0 and distances == sorted(set(distances))
    assert embeds(family, "a red circle").shape == embeds(family, "a (red:0) circle").shape


def test_brackets_are_their_numbers():
    assert torch.equal(embeds("sd", "a (red) circle"), embeds("sd", "a (red:1.1) circle"))
    assert not torch.equal(embeds("sd", "a [red] circle"), embeds("sd", "a (red) circle"))
    with TextToImage.load(CASES["sd"].pipe(), device="cpu") as model:
        wish = ImageParameters(r"a \(red\) circle", steps=2, **SQUARE, weighted=True)
        image = model.submit(wish).result(60)
    asked = {"prompt": "a (red) circle", "num_inference_steps": 2, "seed": 0, **SQUARE}
    assert levels_apart(image, plain(CASES["sd"].pipe(), asked)) == 0


def test_a_word_of_no_weight_is_as_good_as_absent():
    """Its place stays, so no prompt without it is quite alike; but what it says does not matter."""
    red, blue = (embeds("sd", f"a ({word}:0) circle")[0, 4:] for word in ("red", "ink"))
    assert (red - blue).norm() < 0.05 * (embeds("sd", "a red circle")[0, 4:] - blue).norm()


@pytest.mark.parametrize("family", WINDOWED)
def test_a_long_prompt_is_read_to_its_end(family: str):
    usual, long = embeds(family, "a red circle"), embeds(family, LONG)
    assert long.shape[1] - usual.shape[1] == 2 * CLIP_LENGTH
    assert not torch.equal(long, embeds(family, LONG.replace("green square", "black heart")))
    with TextToImage.load(CASES[family].pipe(), device="cpu") as model:
        cut, whole, other = (
            model.submit(ImageParameters(text, steps=2, weighted=weighted, **SQUARE)).result(60)
            for text, weighted in [(LONG, False), (LONG, True), (LONG + ", a heart", True)]
        )
    assert cut.tobytes() != whole.tobytes() != other.tobytes()


@pytest.mark.parametrize("family", WINDOWED[:2])
def test_a_break_begins_a_new_window(family: str):
    parts = [embeds(family, text) for text in ("a (red:1.3) circle", "a blue star")]
    assert torch.equal(embeds(family, "a (red:1.3) circle BREAK a blue star"), torch.cat(parts, 1))


def test_a_break_is_a_space_for_t5():
    found = [
        encoded(CASES["flux"].pipe(), text, options=SHORT["flux"])
        for text in ("a red BREAK circle", "a red circle")
    ]
    for name in ("prompt_embeds", "pooled_prompt_embeds"):
        assert torch.equal(found[0][name], found[1][name])


@pytest.mark.parametrize("family", FAMILIES)
def test_negative_prompts_are_weighted_and_as_long(family: str):
    options = SHORT.get(family, {}) | ({"true_cfg_scale": 3.0} if family == "flux" else {})
    pipe = CASES[family].pipe()
    for prompt, negative in [("a cat", LONG), (LONG, "a cat"), ("a cat", "an (ugly:1.4) one")]:
        found = encoded(pipe, prompt, negative_prompt=negative, options=options)
        assert found["negative_prompt_embeds"].shape == found["prompt_embeds"].shape
        said = embeds(family, negative, options=options, guidance=1.0)
        assert torch.equal(found["negative_prompt_embeds"][:, : said.shape[1]], said) or (
            family == "sd3"
        )
    plainly = encoded(pipe, "a cat", negative_prompt="an ugly one", options=options)
    assert not torch.equal(found["negative_prompt_embeds"], plainly["negative_prompt_embeds"])


@pytest.mark.parametrize("skip", [0, 1])
def test_clip_skip(skip: int):
    options = {"clip_skip": skip}
    case = CASES["sdxl"]
    asked = case.asked()[0] | options
    with TextToImage.load(case.pipe(), device="cpu") as model:
        image = model.submit(replace(parameters(asked), weighted=True)).result(60)
    assert levels_apart(image, plain(case.pipe(), asked)) == 0
    # In Stable Diffusion it counts from the last layer, and the norm follows whatever is read.
    same = torch.equal(embeds("sd", "a cat", options=options), embeds("sd", "a cat"))
    assert same == (skip == 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_prompts_of_their_own_for_each_encoder(weighted: bool):
    options = {"prompt_2": "a blue star", "negative_prompt_2": "an ugly one"}
    wish = ImageParameters(
        "a cat", negative_prompt="a dog", steps=2, **SQUARE, options=options, weighted=weighted
    )
    asked = {"prompt": "a cat", "negative_prompt": "a dog", "num_inference_steps": 2, "seed": 0}
    with TextToImage.load(CASES["sdxl"].pipe(), device="cpu") as model:
        image = model.submit(wish).result(60)
    assert levels_apart(image, plain(CASES["sdxl"].pipe(), asked | options | SQUARE)) == 0


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"prompt": "(cat:99)"}, "weights are -10 to 10"),
        ({"negative_prompt": "(cat:99)"}, "weights are -10 to 10"),
        ({"options": {"prompt_embeds": torch.zeros(1, 24, 32)}}, "prompt_embeds and weighted"),
        ({"options": {"cross_attention_kwargs": {"scale": 0.5}}}, "a LoRA's scale"),
    ],
)
def test_what_is_refused_before_it_starts(wishes: dict[str, Any], said: str):
    wish = replace(ImageParameters("a cat", steps=1, **SQUARE, weighted=True), **wishes)
    with TextToImage.load(CASES["sd"].pipe(), device="cpu") as model:
        with pytest.raises(RequestError, match=said):
            model.submit(wish)
        model.submit(ImageParameters("(cat:99)", steps=1, **SQUARE)).result(60)


@pytest.mark.parametrize(
    ("family", "prompt", "negative", "wanted"),
    [
        ("sd", "a cat", None, False),
        ("sd", "a (cat)", None, True),
        ("sd", "a cat", "(ugly)", True),
        ("sd", "a" * 22, None, False),
        ("sd", "a" * 23, None, True),
        ("sd", "a cat", "b" * 23, True),
        ("flux", "a" * 99, None, False),
        ("flux", "a (cat)", None, True),
    ],
)
def test_what_a_face_is_told(family: str, prompt: str, negative: str | None, wanted: bool):
    arguments = Arguments(CASES[family].pipe(), "zoo")
    asked = ImageParameters(prompt, negative_prompt=negative)
    assert suggests_weighting(arguments, asked) == wanted

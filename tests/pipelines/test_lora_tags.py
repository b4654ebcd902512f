"""LoRAs in prompts are read as A1111 writes them, and nothing else is."""

import time

import pytest

from mindsd.errors import RequestError
from mindsd.pipelines.lora_tags import read_lora_tags


@pytest.mark.parametrize(
    ("prompt", "text", "loras"),
    [
        ("a fox", "a fox", ()),
        (" a  fox ", " a  fox ", ()),
        ("a fox <lora:ink:0.8>", "a fox", (("ink", 0.8),)),
        ("<lora:ink:0.8> a fox", "a fox", (("ink", 0.8),)),
        ("a <lora:ink:1> <lora:oil:-.5> fox", "a fox", (("ink", 1.0), ("oil", -0.5))),
        ("a fox, <lora:ink:0.8>, red", "a fox, , red", (("ink", 0.8),)),
        ("a<lora:ink:2.>b", "ab", (("ink", 2.0),)),
        ("a fox <lora:ink>", "a fox", (("ink", 1.0),)),
        ("<lora: my ink v1.5 : +0.5 >", "", (("my ink v1.5", 0.5),)),
        ("<lora:ink:0.5><lora:oil:1><lora:ink:0.25>", "", (("ink", 0.75), ("oil", 1.0))),
        ("a (red:1.2) <fox> <hyper:a:1> <lora:a", "a (red:1.2) <fox> <hyper:a:1> <lora:a", ()),
        ("红 <lora:水墨:0.8> 狐", "红 狐", (("水墨", 0.8),)),
    ],
)  # fmt: skip
def test_tags_are_taken_out(prompt, text, loras):
    assert read_lora_tags(prompt) == (text, loras)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("<lora:>", "has no name"),
        ("<lora::0.8>", "has no name"),
        ("<lora:ink:>", "no number"),
        ("<lora:ink:strong>", "no number"),
        ("<lora:ink:nan>", "no number"),
        ("<lora:ink:1e999>", "no number"),
        ("<lora:ink:١>", "no number"),
        ("<lora:ink:0.5:0.8>", "parts of the model weights of their own"),
        ("<lora:ink:te=0.5>", "parts of the model weights of their own"),
    ],
)
def test_tags_that_cannot_be_obeyed_are_refused(prompt, said):
    with pytest.raises(RequestError, match=said):
        read_lora_tags(prompt)


@pytest.mark.parametrize("piece", ["<lora:", " ", "<lora:a:1> ", "<", "<lora:a:1"])
def test_long_prompts_are_read_at_once(piece):
    start = time.perf_counter()
    read_lora_tags(piece * 100_000)
    assert time.perf_counter() - start < 5

"""Tokens told as text and bytes, whatever the tokenizer is made of."""

from __future__ import annotations

import math

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from mindsd.app.server.text_logprobs import LEAST, TokenTexts
from mindsd.pipelines.text_result import TokenLogprob
from tests.zoo.tiny_llama import tiny_tokenizer


@pytest.fixture(scope="module")
def texts() -> TokenTexts:
    return TokenTexts(tiny_tokenizer())


def test_bytes_of_byte_level_tokens_are_those_of_the_text(texts: TokenTexts):
    tokenizer = tiny_tokenizer()
    said = "The capital é 大 🙂 </s>\n"
    ids = tokenizer(said)["input_ids"]
    assert b"".join(map(texts.bytes_of, ids)).decode() == said
    assert texts.bytes_of(len(tokenizer) + 7) == b""


def test_bytes_of_sentencepiece_tokens():
    words = {"<unk>": 0, "▁Paris": 1, "<0xC3>": 2, "<0xA9>": 3, "is": 4}
    backend = Tokenizer(models.BPE(words, [], byte_fallback=True, unk_token="<unk>"))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps)
    texts = TokenTexts(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert [texts.bytes_of(id) for id in (1, 2, 3, 4)] == [b" Paris", b"\xc3", b"\xa9", b"is"]


def test_the_two_forms(texts: TokenTexts):
    [part, whole] = [tiny_tokenizer()("é")["input_ids"][0], tiny_tokenizer()("a")["input_ids"][0]]
    logprobs = [
        TokenLogprob(part, -math.inf, ((whole, -0.25), (part, -2.0))),
        TokenLogprob(whole, -0.5, ()),
    ]
    first, second = texts.chat(logprobs)["content"]
    assert (first["token"], first["bytes"], first["logprob"]) == ("\ufffd", [0xC3], LEAST)
    assert [own["token"] for own in first["top_logprobs"]] == ["a", "\ufffd"]
    assert second == {"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}
    told = texts.completion(logprobs, 10)
    assert told["tokens"] == ["bytes:\\xc3", "a"] and told["text_offset"] == [10, 11]
    assert told["top_logprobs"] == [{"a": -0.25, "bytes:\\xc3": -2.0}, {}]
    assert texts.completion([], 10)["text_offset"] == []

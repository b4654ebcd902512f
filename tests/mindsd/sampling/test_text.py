"""Text while it comes: whole characters, no trace of a stop string, the same however split."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mindsd.sampling.text import TextStream

FAMILY, FLAG = "👨\u200d👩\u200d👧", "🏳\ufe0f\u200d🌈"
ALPHABET = [
    "a",
    "b",
    "ab",
    " ",
    "e\u0301",
    "é",
    "你",
    "好",
    "😀",
    FAMILY,
    FLAG,
    "ก็",
    "\n",
    "\ufffd",
]


@pytest.fixture(scope="module")
def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["hello 你好 😀😁 ababab é e\u0301"] * 3, trainer)
    return tokenizer


@pytest.fixture(scope="module")
def byte_fallback():
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁a", "b", "▁hello", "你"]
    vocabulary = {word: at for at, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def pieces(tokenizer, tokens, rng, **more):
    stream, shown, start = TextStream(tokenizer, **more), [], 0
    while start < len(tokens):
        end = start + rng.choice([1, 1, 2, 5])
        shown.append(stream.push(tokens[start:end]))
        start = end
    shown.append(stream.finish())
    assert stream.text == "".join(shown)
    assert stream.finish() == "" and stream.push(tokens if stream.stopped else []) == ""
    return shown, stream.stopped


def until_stop(text, stops):
    """The text before the stop string that is complete first, found character by character."""
    for end in range(len(text) + 1):
        met = [stop for stop in stops if text[:end].endswith(stop)]
        if met:
            longest = max(met, key=len)
            return text[: end - len(longest)], longest
    return text, None


def any_text(rng, length):
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randrange(length)))


def test_pieces_are_the_whole_text(byte_level):
    rng = random.Random(1)
    for _ in range(300):
        text = any_text(rng, 30)
        shown, stopped = pieces(byte_level, byte_level.encode(text).ids, rng)
        assert "".join(shown) == text and stopped is None


def test_pieces_end_at_the_first_stop_string(byte_level):
    rng = random.Random(2)
    met = 0
    for _ in range(1000):
        text = any_text(rng, 30)
        stops = [any_text(rng, 4) or "ab" for _ in range(rng.randrange(1, 4))]
        shown, stopped = pieces(byte_level, byte_level.encode(text).ids, rng, stop=stops)
        assert ("".join(shown), stopped) == until_stop(text, stops)
        met += stopped is not None
    assert 200 < met < 950


def test_random_tokens_are_the_tokenizers_own_text(byte_level):
    rng = random.Random(3)
    for _ in range(300):
        tokens = [rng.randrange(byte_level.get_vocab_size() + 5) for _ in range(rng.randrange(40))]
        shown, _ = pieces(byte_level, tokens, rng)
        assert "".join(shown) == byte_level.decode(tokens)


def test_a_character_is_shown_when_it_is_whole(byte_level):
    tokens = byte_level.encode("👧").ids
    assert len(tokens) > 1
    stream = TextStream(byte_level)
    assert [stream.push([token]) for token in tokens] == [""] * (len(tokens) - 1) + ["👧"]
    cut = TextStream(byte_level)
    assert cut.push(tokens[:-1]) == "" and cut.finish() == byte_level.decode(tokens[:-1])


def test_the_beginning_of_a_stop_string_waits_for_what_follows(byte_level):
    def letters(text):
        return [byte_level.token_to_id(letter) for letter in text]

    stream = TextStream(byte_level, stop=["stop"])
    assert [stream.push([one]) for one in letters("xstsz")] == ["x", "", "", "st", "sz"]
    assert stream.push(letters("sto")) == "" and stream.finish() == "sto"
    stream = TextStream(byte_level, stop="stop")
    assert [stream.push(letters(text)) for text in ("as", "to", "pzz", "b")] == ["a", "", "", ""]
    assert (stream.stopped, stream.text, stream.finish()) == ("stop", "a", "")


def test_special_tokens_are_left_out_unless_asked_for(byte_level):
    end = byte_level.token_to_id("<|end|>")
    tokens = [*byte_level.encode("a").ids, end, *byte_level.encode("b").ids]
    assert TextStream(byte_level).push(tokens) == "ab"
    assert TextStream(byte_level, skip_special_tokens=False).push(tokens) == "a<|end|>b"


def test_bytes_that_turn_out_wrong_do_not_end_the_stream(byte_fallback):
    """A run of byte tokens is decoded together: one that is wrong spoils those shown before."""
    words = ["▁hello", "<0x41>", "<0xFF>", "b", "▁a", "b"]
    tokens = [byte_fallback.token_to_id(word) for word in words]
    stream = TextStream(byte_fallback)
    assert [stream.push([one]) for one in tokens] == ["hello", "A", "", "\ufffdb", " a", "b"]


def test_random_bytes_never_fail_and_good_text_comes_whole(byte_fallback):
    rng = random.Random(4)
    for _ in range(200):
        tokens = [rng.randrange(1, byte_fallback.get_vocab_size()) for _ in range(30)]
        pieces(byte_fallback, tokens, rng, stop=["b"] if rng.random() < 0.5 else [])
        text = any_text(rng, 12)
        tokens = [1 + byte for byte in text.encode()]
        shown, _ = pieces(byte_fallback, tokens, rng)
        assert "".join(shown) == byte_fallback.decode(tokens)

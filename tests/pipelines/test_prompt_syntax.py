"""A1111's prompt syntax: its own examples, what is refused, and that nothing takes long."""

from __future__ import annotations

from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindsd.errors import RequestError
from mindsd.pipelines.prompt_syntax import MOST_CHARACTERS, Part, parse, wants_weighting

# The first six are the examples in the source of AUTOMATIC1111's parser, with its answers.
KNOWN = {
    "normal text": [("normal text", 1.0)],
    "an (important) word": [("an ", 1.0), ("important", 1.1), (" word", 1.0)],
    "(unbalanced": [("unbalanced", 1.1)],
    r"\(literal\]": [("(literal]", 1.0)],
    "(unnecessary)(parens)": [("unnecessaryparens", 1.1)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1.0),
        ("house", 1.573),
        (" ", 1.1),
        ("on", 1.0),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641),
        (".", 1.1),
    ],
    "": [("", 1.0)],
    "()": [("", 1.0)],
    "[word]": [("word", 1 / 1.1)],
    "[[word]": [("word", 1 / 1.21)],
    "a) b] c": [("a) b] c", 1.0)],
    r"\\ \( \)": [("\\ ( )", 1.0)],
    r"a\b": [("a\\b", 1.0)],
    "(a:1.0) b": [("a b", 1.0)],
    "(word: 1.2 )": [("word", 1.2)],
    "(word:-0.5)": [("word", -0.5)],
    "(a:b)": [("a:b", 1.1)],
    "a: 3": [("a: 3", 1.0)],
    "a:3)": [("a:3)", 1.0)],
    "(word:nan)": [("word:nan", 1.1)],
    "BREAKFAST": [("BREAKFAST", 1.0)],
}


@pytest.mark.parametrize(("prompt", "parts"), KNOWN.items())
def test_what_a1111_reads(prompt: str, parts: list[tuple[str, float]]):
    (found,) = parse(prompt)
    assert [part.text for part in found] == [text for text, _ in parts]
    assert [part.weight for part in found] == pytest.approx([weight for _, weight in parts])


@pytest.mark.parametrize(
    ("prompt", "sections"),
    [
        ("a cat BREAK a dog", [[Part("a cat")], [Part("a dog")]]),
        ("a BREAK BREAK b", [[Part("a")], [Part("")], [Part("b")]]),
        ("BREAK b", [[Part("")], [Part("b")]]),
        ("a BREAK", [[Part("a")]]),
        ("BREAK", [[Part("")]]),
        ("(a BREAK b:2)", [[Part("a", 2.0)], [Part("b", 2.0)]]),
        ("(a:2) BREAK (b:3)", [[Part("a", 2.0)], [Part("b", 3.0)]]),
    ],
)
def test_breaks(prompt: str, sections: list[list[Part]]):
    assert parse(prompt) == sections


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("(word:1.2.3)", "weight '1.2.3' of the prompt is not a number"),
        ("(word:.)", "is not a number"),
        ("(word:11)", "weight 11 of the prompt: weights are -10 to 10"),
        (f"(word:{'9' * 400})", "weights are -10 to 10"),
        ("((word:10))", "the brackets around 'word' make 11: weights are -10 to 10"),
        ("(" * 33, "more than 32 brackets of the prompt are open at once; write"),
        ("([" * 17, "more than 32 brackets"),
        ("a" * (MOST_CHARACTERS + 1), "at most 8000 characters, got 8001"),
        ("a [cat:dog:0.5]", "':0.5]' is A1111's prompt editing, which mindsd does not have"),
        ("a [cat|dog]", r"'\[cat|' is A1111's prompt editing"),
    ],
)
def test_what_is_refused(prompt: str, said: str):
    with pytest.raises(RequestError, match=said.replace("|", r"\|")):
        parse(prompt)
    assert wants_weighting(prompt)


@pytest.mark.parametrize("prompt", ["(a:10)", "(" * 32, "a" * MOST_CHARACTERS, r"a \[cat|dog\]"])
def test_what_is_just_allowed(prompt: str):
    assert parse(prompt)


@pytest.mark.parametrize("prompt", ["a cat", "", "a: b", "a) cat", "1, 2 | 3", " spaces  stay "])
def test_plain_prompts_want_no_weighting(prompt: str):
    assert not wants_weighting(prompt)
    assert parse(prompt) == [[Part(prompt)]]


@pytest.mark.parametrize("prompt", ["(a)", "[a]", "(a:1.0)", r"\(", "a BREAK b", "(open"])
def test_syntax_wants_weighting(prompt: str):
    assert wants_weighting(prompt)


@pytest.mark.parametrize(
    "piece", [" ", "(a)", "[a", ":1", ":.", ": ", "\\", "|", "BREAK ", "(a:1.1", "[|", ")]", ":1)"]
)
def test_hostile_prompts_take_no_time(piece: str):
    started = perf_counter()
    wants_weighting((piece * MOST_CHARACTERS)[:MOST_CHARACTERS])
    assert perf_counter() - started < 1  # s; it takes some 20 ms where a quadratic way took 10 s


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*"()[]:\\|. ab1", "BREAK", ":1.2)", " BREAK "])).map("".join))
def test_any_text_is_read_or_refused(prompt: str):
    try:
        sections = parse(prompt)
    except RequestError:
        return
    assert sections and all(sections)
    assert all(abs(part.weight) <= 10 for section in sections for part in section)
    for section in sections:
        weights = [part.weight for part in section]
        assert all(one != other for one, other in zip(weights, weights[1:], strict=False))
    words = "".join(part.text for section in sections for part in section)
    assert [words.count(letter) for letter in "ab"] == [prompt.count(letter) for letter in "ab"]

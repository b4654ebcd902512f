"""Whatever allowed tokens are drawn, the answer keeps to its constraint."""

import json
import random
import re
import sys

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mindsd.errors import ModelError, RequestError
from mindsd.sampling.grammar import LIMITS, Constraint, GrammarCompiler, schema_text

pytest.importorskip("llguidance")
TEXT = '{"name": "abc", "age": 12, "tags": [true, false, null]} hello world, the cat'
EOS, SURPLUS = 1, 37


@pytest.fixture(scope="module")
def tokenizer():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "</s>"],
        show_progress=False,
    )
    made.train_from_iterator([TEXT] * 20, trainer)
    return made


@pytest.fixture(scope="module")
def compiler(tokenizer):
    return GrammarCompiler(tokenizer, tokenizer.get_vocab_size() + SURPLUS, [EOS])


def answer(grammar, tokenizer, seed, most=600):
    """A random answer of allowed tokens, which ends with a chance of a half wherever it may."""
    chance, tokens = random.Random(seed), []
    while not grammar.finished and len(tokens) < most:
        mask = grammar.mask()
        token = EOS if mask[EOS] and chance.random() < 0.5 else 0
        token = token or chance.choice(mask.nonzero().flatten().tolist())
        grammar.accept(token)
        tokens.append(token)
    assert grammar.finished
    return tokenizer.decode([token for token in tokens if token != EOS])


def fits(value, schema):
    """A plain check of the keywords that these tests use."""
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if "enum" in schema:
        return value in schema["enum"]
    if not isinstance(value, kinds[schema["type"]]):
        return False
    if schema["type"] == "object":
        own = schema["properties"]
        return set(schema["required"]) <= set(value) <= set(own) and all(
            fits(part, own[key]) for key, part in value.items()
        )
    if schema["type"] == "array":
        few = schema.get("minItems", 0) <= len(value) <= schema["maxItems"]
        return few and all(fits(part, schema["items"]) for part in value)
    if schema["type"] == "string":
        return len(value) <= schema["maxLength"]
    return schema.get("minimum", value) <= value <= schema.get("maximum", value)


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
LISTS = {
    "type": "array",
    "items": {"type": "array", "items": {"enum": [1, "a", None, "\u00e9"]}, "maxItems": 3},
    "minItems": 1,
    "maxItems": 4,
}
NESTED = {
    "type": "object",
    "properties": {"of": PERSON, "ok": {"type": "boolean"}},
    "required": ["of"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("schema", [PERSON, LISTS, NESTED], ids=["person", "lists", "nested"])
def test_random_answers_are_json_by_the_schema(compiler, tokenizer, schema):
    start = compiler.compile(Constraint(json_schema=schema))
    for seed in range(25):
        assert fits(json.loads(answer(start.copy(), tokenizer, seed)), schema)


def test_properties_come_in_the_order_of_the_schema(compiler, tokenizer):
    text = answer(compiler.compile(Constraint(json_schema=json.dumps(PERSON))), tokenizer, 3)
    assert list(json.loads(text)) == ["name", "age"]


def test_any_object(compiler, tokenizer):
    grammar = compiler.compile(Constraint(json_object=True))
    take(grammar, tokenizer, '{"name": [1, {"a": null}]}')
    assert grammar.finished
    for text in ("[", "1", '"', "n"):
        start = compiler.compile(Constraint(json_object=True))
        assert start.accepts(tokenizer.encode(text).ids) == 0


@pytest.mark.parametrize(
    "regex", ["[a-c]{2,5}(x|yz)?", r"-?[0-9]{1,4}\.[0-9]{2}", "a/b\nc?", "é+z"]
)
def test_random_answers_match_the_regex(compiler, tokenizer, regex):
    start = compiler.compile(Constraint(regex=regex))
    texts = {answer(start.copy(), tokenizer, seed) for seed in range(25)}
    assert texts and all(re.fullmatch(regex, text) for text in texts)


def test_every_choice_can_be_made_and_no_other(compiler, tokenizer):
    words = ("a", "ab", 'the "cat"\n', "é/\\", "\U0001f600")
    start = compiler.compile(Constraint(choice=words))
    assert {answer(start.copy(), tokenizer, seed) for seed in range(300)} == set(words)


def test_a_grammar_counts_brackets(compiler, tokenizer):
    start = compiler.compile(Constraint(grammar='start: "(" start ")" | "x"'))
    for seed in range(10):
        text = answer(start.copy(), tokenizer, seed)
        assert text == "(" * (len(text) // 2) + "x" + ")" * (len(text) // 2)


def take(grammar, tokenizer, text):
    tokens = tokenizer.encode(text).ids
    for token in tokens:
        grammar.accept(token)
    return tokens


def test_the_end_is_allowed_only_at_an_end_and_surplus_logits_never(compiler, tokenizer):
    size = tokenizer.get_vocab_size()
    grammar = compiler.compile(Constraint(regex="a{2,3}"))
    ends = []
    for _ in range(3):
        mask = grammar.mask()
        assert mask.dtype == torch.bool and mask.shape == (size + SURPLUS,)
        assert not mask[size:].any()
        ends.append(bool(mask[EOS]))
        take(grammar, tokenizer, "a")
    assert ends == [False, False, True]
    assert grammar.finished and grammar.mask().nonzero().flatten().tolist() == [EOS]
    grammar.accept(EOS)
    assert grammar.finished
    with pytest.raises(RequestError, match="token 0 breaks"):
        grammar.accept(0)


def test_several_ends_and_fewer_logits_than_tokens(tokenizer):
    size = tokenizer.get_vocab_size()
    mask = GrammarCompiler(tokenizer, size, [EOS, 0]).compile(Constraint(regex="a?")).mask()
    assert mask[EOS] and mask[0]
    short = GrammarCompiler(tokenizer, 100, [EOS]).compile(Constraint(regex="(?s).*")).mask()
    assert short.shape == (100,) and short.sum() > 60


def test_what_was_taken_back_was_never_taken(compiler, tokenizer):
    chance = random.Random(5)
    for seed in range(10):
        taken, other = (compiler.compile(Constraint(json_schema=NESTED)) for _ in range(2))
        draw = random.Random(seed)
        for _ in range(12):
            if taken.finished:
                break
            before, count = taken.mask(), 0
            for _ in range(chance.randrange(4)):
                if taken.finished:
                    break
                taken.accept(chance.choice(taken.mask().nonzero().flatten().tolist()))
                count += 1
            taken.rollback(count)
            assert torch.equal(taken.mask(), before) and torch.equal(other.mask(), before)
            token = draw.choice(before.nonzero().flatten().tolist())
            taken.accept(token)
            other.accept(token)


def test_an_end_can_be_taken_back(compiler, tokenizer):
    grammar = compiler.compile(Constraint(regex="a{1,2}"))
    take(grammar, tokenizer, "aa")
    grammar.accept(EOS)
    grammar.rollback(2)
    assert not grammar.finished and grammar.mask()[EOS]
    grammar.rollback(1)
    assert not grammar.mask()[EOS]
    with pytest.raises(RequestError, match="1 of 0 tokens"):
        grammar.rollback(1)


def test_a_copy_goes_its_own_way(compiler, tokenizer):
    grammar = compiler.compile(Constraint(choice=("abc", "abd")))
    first = take(grammar, tokenizer, "a")
    other = grammar.copy()
    take(grammar, tokenizer, "bc")
    assert grammar.finished and not other.finished
    assert other.accepts(tokenizer.encode("b").ids) == 1
    other.rollback(len(first))
    assert grammar.finished and other.accepts(first) == 1


def test_a_draft_is_counted_and_not_taken(compiler, tokenizer):
    grammar = compiler.compile(Constraint(regex="xyz"))
    x, y, z, q = (tokenizer.encode(letter).ids[0] for letter in "xyzq")
    assert [grammar.accepts(d) for d in ([x, y, z, EOS], [x, q, z], [q], [], [x, 10**9], [-1])] == [
        *(4, 1, 0, 0, 1, 0)
    ]
    before = grammar.mask()
    for wrong in (q, EOS, -1, 10**9):
        with pytest.raises(RequestError, match="breaks the constraint at place 0"):
            grammar.accept(wrong)
    assert torch.equal(grammar.mask(), before)


def deep(levels):
    schema = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


WRONG = {
    "none": ({}, "one of"),
    "two": ({"regex": "a", "json_object": True}, "got .*object., .regex"),
    "no choice": ({"choice": []}, "1 to 1024"),
    "many choices": ({"choice": ["a"] * 1025}, "1 to 1024"),
    "choice of letters": ({"choice": "abc"}, "1 to 1024"),
    "choice of numbers": ({"choice": [1]}, "choice is no text"),
    "regex of bytes": ({"regex": b"a"}, "regex is no text"),
    "long regex": ({"regex": "a" * 8193}, "8193 characters, over 8192"),
    "long grammar": ({"grammar": "a" * 20000}, "over 16384"),
    "large": ({"json_schema": {"enum": ["a" * 65536]}}, "over 65536"),
    "deep": ({"json_schema": deep(33)}, "33 levels .* at most 32"),
    "very deep": ({"json_schema": "[" * 90000}, "not JSON"),
    "no json": ({"json_schema": "{"}, "not JSON"),
    "nan": ({"json_schema": {"const": float("nan")}}, "not JSON"),
    "no object": ({"json_schema": "[1]"}, "got list"),
    "nothing": ({"json_schema": False}, "got bool"),
    "remote": ({"json_schema": {"$ref": "http://a/b"}}, "leads out"),
    "lenient": ({"json_schema": {"x-guidance": {"lenient": True}}}, "x-guidance"),
    "chain": (
        {"json_schema": {f"{i}": {"$ref": f"#/{i + 1}"} for i in range(900)}},
        "2 levels and 900 .refs",
    ),
}


@pytest.mark.parametrize("given, said", WRONG.values(), ids=WRONG)
def test_a_constraint_is_checked_when_made(given, said):
    with pytest.raises(RequestError, match=said):
        Constraint(**given)


UNUSABLE = {
    "uniqueItems": ({"json_schema": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
    "not": ({"json_schema": {"not": {}}}, "not"),
    "format": ({"json_schema": {"type": "string", "format": "odd"}}, "odd"),
    "type": ({"json_schema": {"type": "odd"}}, "odd"),
    "nowhere": ({"json_schema": {"$ref": "#/nope"}}, "/nope"),
    "endless": ({"json_schema": {"$ref": "#"}}, "json_schema cannot be used"),
    "json in a grammar": (
        {"grammar": 'start: %json {"x-guidance":{"lenient":true},"uniqueItems":true}'},
        "uniqueItems",
    ),
    "explodes": ({"regex": "(a{1000}){1000}"}, "too many"),
    "look-ahead": ({"regex": "a(?=b)"}, "look-around"),
    "bracket": ({"regex": "["}, "unclosed"),
    "nothing matches": ({"regex": r"[^\s\S]"}, "regex cannot be used"),
    "half a character": ({"regex": "\ud800"}, "surrogate"),
    "bad rule": ({"grammar": "start: foo"}, "unknown name"),
    "no start": ({"grammar": 'x: "a"'}, "start"),
    "never ends": ({"grammar": 'start: "a" start'}, "cannot be used"),
}


@pytest.mark.parametrize("given, said", UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_followed_is_refused(compiler, given, said):
    with pytest.raises(RequestError, match=said) as caught:
        compiler.compile(Constraint(**given))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_limit_met_on_the_way_is_an_error_and_no_end(compiler, tokenizer, monkeypatch):
    monkeypatch.setitem(LIMITS, "step_lexer_fuel", 200)
    grammar = compiler.compile(Constraint(regex="(a|b)*a(a|b){20}"))
    with pytest.raises(RequestError, match="cannot be followed"):
        for _ in range(40):
            take(grammar, tokenizer, "abbab")
            grammar.mask()
    for step in (grammar.mask, lambda: grammar.accepts([EOS]), lambda: grammar.accept(EOS)):
        with pytest.raises(RequestError, match="cannot be followed"):
            step()


def test_the_schema_is_kept_as_text():
    assert schema_text(' {"b": 1,\n"a": "\u00e9"}') == '{"b":1,"a":"\\u00e9"}'
    assert Constraint(json_schema={"type": "null"}) == Constraint(json_schema='{"type": "null"}')
    assert hash(Constraint(choice=tuple(["a"]))) == hash(Constraint(choice=("a",)))
    assert Constraint(json_schema=True).kind == "json_schema"
    assert Constraint(json_object=True).kind == "json_object"


def test_the_tokenizer_is_left_as_it_was(tokenizer):
    tokenizer.enable_padding(length=8)
    GrammarCompiler(tokenizer, 400, [EOS])
    assert tokenizer.padding["length"] == 8
    tokenizer.no_padding()


def test_a_tokenizer_of_transformers_serves_as_well(tokenizer):
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
    masks = [
        GrammarCompiler(own, 400, [EOS]).compile(Constraint(json_object=True)).mask()
        for own in (fast, tokenizer)
    ]
    assert torch.equal(*masks)


def test_what_cannot_be_compiled_for_is_refused(tokenizer, monkeypatch):
    with pytest.raises(ModelError, match="fast tokenizer, got str"):
        GrammarCompiler("gpt2", 400, [EOS])
    for ends in ([], [-1], [399]):
        with pytest.raises(ModelError, match="end tokens"):
            GrammarCompiler(tokenizer, 400, ends)
    with pytest.raises(ModelError, match="cannot use the tokenizer"):
        GrammarCompiler(Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a")), 2, [1])
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(RequestError, match=r"pip install 'mindsd\[grammar\]'"):
        GrammarCompiler(tokenizer, 400, [EOS])

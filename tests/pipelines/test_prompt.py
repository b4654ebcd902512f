"""What people give as a prompt: texts, messages and tokens, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from mindsd.errors import RequestError
from mindsd.pipelines.prompt import Tokens, are_several, prompt_tokens, read_prompt
from tests.zoo.tiny_llama import TEMPLATE, tiny_tokenizer

START = 0  # <s>
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def tokenizer() -> Any:
    """Which begins every text with <s>, as that of a llama does."""
    own = tiny_tokenizer()
    begun = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", START)])
    own.backend_tokenizer.post_processor = begun
    return own


@pytest.fixture
def bare(tokenizer) -> Any:
    tokenizer.chat_template = None
    return tokenizer


def ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_tokens_are_taken_as_they_are(tokenizer):
    assert read_prompt(tokenizer, [5, 0, 6]) == Tokens([5, 0, 6])
    assert read_prompt(tokenizer, (5,), chat=False).ids == [5]


@pytest.mark.parametrize("wrong", [-1, 300, True, "a", 2.0])
def test_tokens_that_are_none_are_refused(tokenizer, wrong):
    with pytest.raises(RequestError, match=f"token {wrong!r} is none of this model's; they are 0"):
        read_prompt(tokenizer, [5, wrong])


def test_the_model_may_know_fewer_tokens_than_its_tokenizer(tokenizer):
    last = len(tokenizer) - 1
    assert read_prompt(tokenizer, [last], words=last + 5).ids == [last]
    with pytest.raises(RequestError, match=f"token {last} .* 0 to 99"):
        read_prompt(tokenizer, [5, last], words=100)
    with pytest.raises(RequestError, match=f"token {last + 1} .* 0 to {last}"):
        read_prompt(tokenizer, [last + 1], words=last + 5)


@pytest.mark.parametrize("more", [{"system": "be kind"}, {"tools": [{}]}, {"chat": True}])
def test_tokens_are_no_chat(tokenizer, more):
    with pytest.raises(RequestError, match="no system, tools or chat"):
        read_prompt(tokenizer, [5, 6], **more)


def test_a_text_is_said_by_a_user_where_there_is_a_template(tokenizer):
    expected = ids(tokenizer, "<s>user: hello</s><s>assistant:")
    assert expected.count(START) == 2
    for prompt in ("hello", HELLO):
        own = read_prompt(tokenizer, prompt)
        assert own.ids == expected and own.chat and not own.thinks  # <s> comes by the template
        assert own.text == "<s>user: hello</s><s>assistant:" and not own.typed
    assert prompt_tokens(tokenizer, "hello") == expected
    told = ids(tokenizer, "<s>system: be kind</s><s>user: hello</s><s>assistant:")
    assert read_prompt(tokenizer, HELLO, system="be kind").ids == told


def test_a_text_is_gone_on_with_where_it_is_no_chat(tokenizer):
    own = read_prompt(tokenizer, "hello", chat=False)
    assert own == Tokens([START, *ids(tokenizer, "hello")])


def test_a_model_without_a_template_goes_on_with_texts(bare):
    assert read_prompt(bare, "hello") == Tokens([START, *ids(bare, "hello")])
    for prompt, chat in (("hello", True), (HELLO, None), (HELLO, False)):
        with pytest.raises(RequestError, match="no chat template"):
            read_prompt(bare, prompt, chat=chat)


@pytest.mark.parametrize("more", [{"system": "be kind"}, {"tools": [{"type": "function"}]}])
def test_a_text_that_is_no_chat_has_no_system_and_no_tools(tokenizer, bare, more):
    hows: list[dict[str, Any]] = [{"chat": False}, {}]
    for how in hows:
        with pytest.raises(RequestError, match="belong to a chat"):
            read_prompt(bare, "hello", **how, **more)


def test_nothing_cannot_be_gone_on_with(tokenizer):
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(RequestError, match="the prompt is empty"):
        read_prompt(tokenizer, "", chat=False)
    assert read_prompt(tokenizer, "a", chat=False).ids == ids(tokenizer, "a")


def test_half_a_character_is_no_text(tokenizer):
    for chat in (False, True):
        with pytest.raises(RequestError, match="the prompt is no text: surrogates"):
            read_prompt(tokenizer, "ab\udc80", chat=chat)


@pytest.mark.parametrize("salt", [5, None, "\udc80"])
def test_a_salt_is_a_text(tokenizer, salt):
    with pytest.raises(RequestError, match="a salt is a text"):
        read_prompt(tokenizer, [5], salt=salt)


@pytest.mark.parametrize(
    ("end", "thinks"), [("<think>", True), ("<think>\n\n", True), ("<think></think>", False)]
)
def test_a_template_may_open_the_thoughts(tokenizer, end, thinks):
    tokenizer.chat_template = TEMPLATE + end
    assert read_prompt(tokenizer, "hello").thinks is thinks
    assert not read_prompt(tokenizer, "hello <think>", chat=False).thinks


def test_what_a_template_refuses_is_told_in_one_line(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('first a system\nthen more') }}"
    with pytest.raises(RequestError) as caught:
        read_prompt(tokenizer, "hello")
    assert str(caught.value) == "the model's chat template refuses the messages: first a system"
    tokenizer.chat_template = "{{ messages[9].content }}"
    with pytest.raises(RequestError, match="refuses the messages: .*"):
        read_prompt(tokenizer, "hello")


def test_a_template_is_told_the_tools_and_only_where_there_are_some(tokenizer):
    tokenizer.chat_template = "{% if tools is none %}none{% else %}{{ tools | length }}{% endif %}"
    tool = {"type": "function", "function": {"name": "a", "parameters": {}}}
    assert read_prompt(tokenizer, "hello", tools=[tool, tool]).text == "2"
    for tools in (None, []):
        assert read_prompt(tokenizer, "hello", tools=tools).text == "none"


def test_special_tokens_count_only_where_who_wrote_them_is_trusted(tokenizer):
    said = "a</s>b"
    trusted = read_prompt(tokenizer, said)
    other = read_prompt(tokenizer, said, untrusted=True)
    assert (trusted.ids.count(1), other.ids.count(1)) == (2, 1)
    assert other.typed and not trusted.typed and other.chat
    assert tokenizer.decode(other.ids) == "<s>user: a</s>b</s><s>assistant:"
    assert not read_prompt(tokenizer, "ab", untrusted=True).typed


@pytest.mark.parametrize(
    ("prompts", "several"),
    [
        ("hello", False),
        (HELLO, False),
        ([5, 6], False),
        ((5, 6), False),
        ([], True),
        (["a", "b"], True),
        ([HELLO, "b"], True),
        ([[5, 6], [7]], True),
        (5, False),
    ],
)
def test_messages_and_tokens_are_one_prompt(prompts, several):
    assert are_several(prompts) is several

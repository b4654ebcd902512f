"""What is kept of a conversation, and what has to go."""

import pytest

from mindsd.app.conversation import Conversation
from mindsd.app.glance import Glance
from mindsd.errors import RequestError
from mindsd.pipelines.image_cache import ImageCache
from mindsd.pipelines.prompt import prompt_tokens
from mindsd.pipelines.vision import Vision
from tests.zoo.tiny_llama import TEMPLATE, tiny_tokenizer
from tests.zoo.vision import colours, vision_case


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def full(tokenizer, exchanges):
    """A conversation whose room its exchanges nearly fill."""
    own = Conversation(tokenizer, None, 50, "be kind")
    for number in range(exchanges):
        own.answered(f"question {number}", f"answer {number}")
    own.room = room = len(prompt_tokens(tokenizer, own.ask("and now?").messages)) + 10
    return own, room


def test_everything_is_kept_while_there_is_room(tokenizer):
    own = Conversation(tokenizer, 1000, 50, "be kind")
    own.answered("one", "two")
    question = own.ask("three")
    told = [(message["role"], message["content"]) for message in question.messages]
    before = [("system", "be kind"), ("user", "one"), ("assistant", "two")]
    assert told == [*before, ("user", "three")]
    assert (question.max_tokens, question.dropped, question.thinking) == (50, 0, False)


def test_the_oldest_go_and_the_system_message_stays(tokenizer):
    own, room = full(tokenizer, 12)
    question = own.ask("and now?")
    assert 0 < question.dropped < 12 and len(own.exchanges) == 12 - question.dropped
    assert question.messages[0] == {"role": "system", "content": "be kind"}
    assert question.messages[1]["content"] == f"question {question.dropped}"
    left = room - len(prompt_tokens(tokenizer, question.messages))
    assert left >= room // 2 and question.max_tokens == min(50, left)
    assert own.ask("and now?").dropped == 0


def test_the_answer_gets_the_room_that_is_left(tokenizer):
    own = Conversation(tokenizer, None, 50)
    tokens = len(prompt_tokens(tokenizer, own.ask("hello").messages))
    own.room = tokens + 3
    assert own.ask("hello").max_tokens == 3


def test_a_message_without_room_is_refused_and_nothing_forgotten(tokenizer):
    own, room = full(tokenizer, 5)
    with pytest.raises(RequestError, match=f"there is room for {room} with the answer"):
        own.ask("and now? " * room)
    assert len(own.exchanges) == 5


def test_an_exchange_without_an_answer_is_not_kept(tokenizer):
    own = Conversation(tokenizer, None, 50)
    own.answered("one", " \n")
    assert own.exchanges == []


def test_starting_over(tokenizer):
    own, _ = full(tokenizer, 3)
    own.restart()
    assert [message["role"] for message in own.ask("hello").messages] == ["system", "user"]


def test_a_template_that_opens_the_thoughts():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE.replace("assistant:{%", "assistant:<think>\n{%")
    assert Conversation(tokenizer, None, 50).ask("hello").thinking


@pytest.fixture(scope="module")
def vision():
    case = vision_case("qwen2_5_vl")  # larger pictures take more tokens
    return Vision(case.model, case.processor, ImageCache(2**20))


def test_pictures_count_with_all_their_tokens(vision):
    own = Conversation(vision.processor.tokenizer, None, 50, glance=Glance(vision))
    picture = colours(0, 32, 32)
    own.answered("what?", "a star", [colours(1, 16, 16)])
    messages = own.ask("and this?", [picture]).messages
    assert [part["type"] for part in messages[2]["content"]] == ["image", "text"]
    tokens = prompt_tokens(vision.processor.tokenizer, messages, vision=vision)
    assert tokens.count(vision.token_id) == 20 and own.tokens_of(picture) == 16
    own.room = len(tokens) + 5
    question = own.ask("and this?", [picture])
    left = own.room - len(
        prompt_tokens(vision.processor.tokenizer, question.messages, vision=vision)
    )
    assert question.dropped == 1 and question.max_tokens == min(50, left)
    own.room = 30
    with pytest.raises(RequestError, match="tokens, 32 of them its pictures', .* or show less"):
        own.ask("and these?", [picture, picture])


def test_pictures_for_a_model_of_text_alone(tokenizer):
    own = Conversation(tokenizer, 1000, 50)
    with pytest.raises(RequestError, match="reads text alone; take one that sees"):
        own.tokens_of(colours(0, 8, 8))

"""The chat tab's handlers, over small models whose words are nonsense."""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr
import pytest

from mindsd.app.web.chat_handlers import ChatHandlers
from mindsd.app.web.studio import Studio
from mindsd.app.web.talk import MOST_TURNS, Turn
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.pipelines.vision_chat import VisionChat

GREEDY = ("", "8", "0")  # no system prompt, tokens, temperature


async def say(handlers: ChatHandlers, id: Any, text: str, *options: Any, files=()) -> list[Any]:
    """Say it; every state that a page would have shown."""
    id, left = await handlers.say(id, {"text": text, "files": list(files)}, *options)
    assert left is None
    return [id, *[state async for state in handlers.watch(id)]]


def test_an_answer_streams_and_is_what_the_pipeline_writes(in_studio, language_model):
    async def body(studio: Studio):
        handlers = ChatHandlers(studio)
        id, *states = await say(handlers, None, "Hello", "writes", *GREEDY)
        shown, state = states[-1]
        assert [own["role"] for own in shown] == ["user", "assistant"] and state == ""
        assert shown[0]["content"] == "Hello" and "Waiting" in states[0][1]
        return studio.desk(id).talk.turns[-1].text, shown[1]["content"]

    text, shown = in_studio(body)
    with TextGeneration.load(str(language_model), device="cpu", dtype="float32") as write:
        message = [{"role": "user", "content": "Hello"}]
        [result] = write.submit(message, max_tokens=8, temperature=0, untrusted=True).result()
    assert text == result.text and shown.startswith(text)
    assert result.finish_reason != "length" or "cut off" in shown


def test_a_picture_is_seen(in_studio, vision_model, pictures):
    async def body(studio: Studio):
        handlers = ChatHandlers(studio)
        id, *states = await say(handlers, None, "What?", "sees", *GREEDY, files=[str(pictures[0])])
        shown = states[-1][0]
        assert shown[0]["content"]["path"] == str(pictures[0]) and shown[1]["content"] == "What?"
        return studio.desk(id).talk.turns[-1].text

    text = in_studio(body)
    with VisionChat.load(str(vision_model), device="cpu", dtype="float32") as look:
        assert text == look.ask(pictures[0], "What?", max_tokens=8, temperature=0).text


def test_the_conversation_goes_on_and_the_last_answer_can_be_written_anew(in_studio):
    async def body(studio: Studio):
        handlers = ChatHandlers(studio)
        id, *_ = await say(handlers, None, "Hello", "writes", *GREEDY)
        await say(handlers, id, "More", "writes", "Be brief.", "4", "0")
        talk = studio.desk(id).talk
        before = [own.text for own in talk.turns]
        assert [own.role for own in talk.turns] == ["user", "assistant"] * 2
        assert await handlers.again(id, "writes", "Be brief.", "4", "0") == id
        assert [state async for state in handlers.watch(id)]
        assert [own.text for own in studio.desk(id).talk.turns] == before
        assert handlers.clear(id) == ([], "") and talk.turns == []

    in_studio(body)


def test_stopping_keeps_what_is_written(in_studio):
    async def body(studio: Studio):
        handlers = ChatHandlers(studio)
        id, _ = await handlers.say(None, {"text": "Hello"}, "writes", "", "200", "0")
        talk = studio.desk(id).talk
        async with asyncio.timeout(60):
            while not (talk.turns[-1].role == "assistant" and talk.turns[-1].text):
                await asyncio.sleep(0.005)
        with pytest.raises(gr.Error, match="stop it first"):
            await handlers.say(id, {"text": "More"}, "writes", *GREEDY)
        handlers.stop(id)
        await studio.settled()
        assert talk.job is None and talk.trouble is None
        assert talk.turns[-1].note == "stopped" and talk.turns[-1].text

    in_studio(body)


@pytest.mark.parametrize(
    ("message", "options", "said"),
    [
        ({"text": " "}, ("writes", *GREEDY), "write something first"),
        ({"text": "a"}, ("draws", *GREEDY), "draws draws pictures"),
        ({"text": "a"}, ("none", *GREEDY), "no model 'none'"),
        ({"text": "a"}, (None, *GREEDY), "model: "),
        ({"text": "a"}, ("writes", "", str(10**30), ""), "most tokens: write a whole number"),
        ({"text": "a"}, ("writes", "", str(10**12), ""), "most tokens: .*1048576"),
        ({"text": "a"}, ("writes", "", "", "101"), "temperature: .*100"),
        ({"text": "a" * 2**21}, ("writes", *GREEDY), "the message: "),
    ],
)
def test_what_is_wrong_is_said_and_nothing_was_said(in_studio, message, options, said):
    async def body(studio: Studio):
        desk = studio.desk()
        with pytest.raises(gr.Error, match=said) as refused:
            await ChatHandlers(studio).say(desk.id, message, *options)
        assert len(str(refused.value)) < 300
        assert desk.talk.turns == [] and studio.service.taken == 0

    in_studio(body)


def test_files_that_are_no_pictures_are_refused(in_studio, tmp_path):
    file = tmp_path / "a.png"
    file.write_text("no picture")

    async def body(studio: Studio):
        with pytest.raises(gr.Error, match="no PNG, JPEG or WebP"):
            await say(ChatHandlers(studio), None, "What?", "sees", *GREEDY, files=[str(file)])
        with pytest.raises(gr.Error, match="too many"):
            await say(ChatHandlers(studio), None, "?", "sees", *GREEDY, files=[str(file)] * 9)

    in_studio(body)


def test_a_model_without_eyes_says_so(in_studio, pictures):
    async def body(studio: Studio):
        handlers = ChatHandlers(studio)
        id, *_ = await say(handlers, None, "What?", "writes", *GREEDY, files=[str(pictures[0])])
        assert [own.role for own in studio.desk(id).talk.turns] == ["user"]
        assert (await handlers.again(id, "sees", *GREEDY)) == id
        await studio.settled()
        assert studio.desk(id).talk.turns[-1].role == "assistant"

    in_studio(body)


def test_a_conversation_has_an_end(in_studio):
    async def body(studio: Studio):
        desk = studio.desk()
        desk.talk.turns = [Turn("user", "a")] * MOST_TURNS
        with pytest.raises(gr.Error, match="clear it"):
            await say(ChatHandlers(studio), desk.id, "more", "writes", *GREEDY)
        with pytest.raises(gr.Error, match="nothing was said"):
            await ChatHandlers(studio).again(None, "writes", *GREEDY)

    in_studio(body)


def test_a_model_that_only_writes_is_first_and_one_that_sees_for_a_picture(in_studio):
    async def body(studio: Studio):
        handlers = ChatHandlers(studio)
        assert handlers.models() == ["writes", "sees"]
        assert [handlers.seeing(own) for own in ("writes", "sees", None)] == ["sees"] * 3

    in_studio(body)

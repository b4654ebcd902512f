"""Messages as people send them: pictures taken out in order, everything else refused by name."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import Any

import pytest

from mindsd.errors import RequestError
from mindsd.pipelines import messages
from mindsd.pipelines.messages import read_messages
from mindsd.pipelines.picture import read_picture
from tests.zoo.vision import colours

A, B = colours(1, 9, 8), colours(2, 7, 6)
IMAGE = {"type": "image"}


def png(picture: Any) -> bytes:
    stream = BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def test_a_text_is_what_a_user_says():
    assert read_messages("Hello", None, sees=False) == ([{"role": "user", "content": "Hello"}], [])
    told, pictures = read_messages("Hello", None, sees=True)
    assert told == user(text("Hello")) and pictures == []


def test_pictures_are_taken_out_in_the_order_they_are_shown():
    given = [
        *user({"type": "image", "image": A}, text("What?"), {"type": "image", "image": "b.png"}),
        {"role": "assistant", "content": "A cat."},
        *user(text("And"), {"type": "image", "image": B}),
    ]
    told, pictures = read_messages(given, None, sees=True)
    assert pictures == [A, "b.png", B]
    assert told == [
        *user(IMAGE, text("What?"), IMAGE),
        {"role": "assistant", "content": [text("A cat.")]},
        *user(text("And"), IMAGE),
    ]
    assert given[0]["content"][0]["image"] is A  # what was given is as it was


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_data_url_is_the_picture_itself(wrapped):
    told: Any = url(png(A))
    part = {"type": "image_url", "image_url": {"url": told, "detail": "low"} if wrapped else told}
    found, [picture] = read_messages(user(part), None, sees=True)
    assert found == user(IMAGE) and picture == png(A)
    assert read_picture(picture).tobytes() == A.tobytes()


def test_a_model_of_text_alone_reads_texts_of_parts():
    given = user(text("What"), text("is it?"))
    assert read_messages(given, None, sees=False)[0] == [
        {"role": "user", "content": "What\nis it?"}
    ]
    for part in ({"type": "image", "image": A}, {"type": "image_url", "image_url": url(png(A))}):
        with pytest.raises(RequestError, match="text alone"):
            read_messages(user(text("What?"), part), None, sees=False)


@pytest.mark.parametrize("sees", [True, False])
def test_a_system_message_comes_first(sees):
    told, _ = read_messages("Hello", "Be kind.", sees=sees)
    assert [own["role"] for own in told] == ["system", "user"]
    assert told[0]["content"] == ([text("Be kind.")] if sees else "Be kind.")
    for role in ("system", "developer"):
        with pytest.raises(RequestError, match="leave `system` out"):
            read_messages([{"role": role, "content": "a"}], "b", sees=sees)


@pytest.mark.parametrize("sees", [True, False])
def test_an_assistant_may_say_nothing_but_call(sees):
    call: Any = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    told, _ = read_messages([call], None, sees=sees)
    assert told == [call | {"content": ""}]
    with pytest.raises(RequestError, match="content is a text"):
        read_messages([call | {"tool_calls": []}], None, sees=sees)


HUGE = "A" * 10**6
WRONG: dict[str, tuple[Any, str]] = {
    "nothing": ([], "a prompt is a text"),
    "a number": (7, "a prompt is a text"),
    "one message": (user(text("a"))[0], "a prompt is a text"),
    "bytes": (b"abc", "a message is"),
    "a role": ([{"role": "king", "content": "a"}], "king"),
    "no content": ([{"role": "user"}], "content is a text"),
    "an empty content": ([{"role": "user", "content": []}], "content is a text"),
    "a part": (user("a"), "a part of a message"),
    "another kind": (user({"type": "video", "video": "a.mp4"}), "a part of a message.*video"),
    "a text of no text": (user({"type": "text", "text": 7}), "holds a text, got 7"),
    "no image": (user({"type": "image"}), "an image is a PIL image or a path, got None"),
    "a wrong image": (user({"type": "image", "image": 7}), "got 7"),
    "a link": (user({"type": "image_url", "image_url": "https://a.b/c.png"}), "nothing is fetched"),
    "a file": (
        user({"type": "image_url", "image_url": {"url": "file:///a"}}),
        "nothing is fetched",
    ),
    "a text URL": (user({"type": "image_url", "image_url": url(b"a", "text/plain")}), "nothing is"),
    "no base64": (user({"type": "image_url", "image_url": "data:image/png,abc"}), "nothing is"),
    "no URL": (user({"type": "image_url"}), "holds the picture itself"),
    "URL of a number": (user({"type": "image_url", "image_url": {"url": 7}}), "holds the picture"),
    "bad base64": (
        user({"type": "image_url", "image_url": "data:image/png;base64,a?"}),
        "no base64",
    ),
    "not ASCII": (user({"type": "image_url", "image_url": "data:image/png;base64,ä"}), "no base64"),
    "huge": (user({"type": "input_image", "image_url": HUGE}), "input_image"),
    "huge link": (user({"type": "image_url", "image_url": "http://" + HUGE}), "nothing is fetched"),
    "huge role": ([{"role": HUGE, "content": [{"type": "image"}] * 999}], "a message is"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_one_short_sentence(name):
    given, match = WRONG[name]
    with pytest.raises(RequestError, match=match) as error:
        read_messages(given, None, sees=True)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 300


def test_a_system_message_of_no_text_is_refused():
    with pytest.raises(RequestError, match="a system message is a text, got 7"):
        read_messages("a", 7, sees=True)  # pyright: ignore[reportArgumentType]


def test_a_data_url_over_the_cap_is_not_decoded(monkeypatch):
    monkeypatch.setattr(messages, "MAX_URL", 100)
    monkeypatch.setattr(messages, "b64decode", None)
    with pytest.raises(RequestError, match="over 100; shrink it"):
        read_messages(user({"type": "image_url", "image_url": url(bytes(100))}), None, sees=True)


def test_what_a_data_url_holds_is_read_like_a_file():
    for content, kind in ((b"not a picture", "image/png"), (b"<svg/>", "image/svg+xml")):
        part = {"type": "image_url", "image_url": url(content, kind)}
        _, [picture] = read_messages(user(part), None, sees=True)
        with pytest.raises(RequestError, match="cannot be read as a picture"):
            read_picture(picture)


def test_messages_from_elsewhere_open_no_path():
    message = {"role": "user", "content": [{"type": "image", "image": "/etc/hostname"}]}
    assert read_messages([message], None, sees=True)[1] == ["/etc/hostname"]
    with pytest.raises(RequestError, match="no path is opened"):
        read_messages([message], None, sees=True, files=False)

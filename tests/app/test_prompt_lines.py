"""Lines of a batch: each by itself, whatever the others are."""

import pytest

from mindsd.app.prompt_lines import PromptLines, parse_line
from mindsd.errors import RequestError


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{bad", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"prompt": "\xff"}', "not valid UTF-8"),
        (b'{"prompt": "\\ud800"}', "not valid UTF-8"),
        (b"[1, 2]", "an object or a text, got list"),
        (b"{}", "one of the two; got []"),
        (b'{"prompt": "a", "messages": []}', "one of the two; got ['prompt', 'messages']"),
        (b'{"prompt": 3}', "a prompt is a text or tokens, got int"),
        (b'{"messages": "a"}', "messages are a list, got str"),
        (b'{"messages": [{"role": "user"}]}', "is a text or a list of parts, got None"),
        (b'{"prompt": "a", "id": 1.5}', "an id is a text or a whole number, got 1.5"),
    ],
)
def test_what_is_wrong_with_a_line(raw, words):
    line = parse_line(7, raw)
    assert line.error is not None and words in line.error
    assert line.key == ("line", 7)


def test_a_wrong_line_keeps_its_id():
    assert parse_line(7, b'{"id": "a"}').key == ("id", "a")


def test_the_forms_of_a_line():
    text = parse_line(1, b'"hello"')
    assert (text.prompt, text.key, text.options) == ("hello", ("line", 1), {})
    own = parse_line(2, b'{"id": 9, "prompt": [3, 4], "seed": 5, "messages": null}')
    assert (own.prompt, own.key, own.options) == ([3, 4], ("id", 9), {"seed": 5})
    chat = parse_line(3, b'{"messages": [{"role": "user", "content": "a"}]}')
    assert chat.prompt == [{"role": "user", "content": "a"}] and chat.error is None
    parts = parse_line(4, b'{"messages": [{"role": "user", "content": [{"type": "image"}]}]}')
    assert parts.prompt[0]["content"] == [{"type": "image"}] and parts.error is None


def test_the_lines_of_a_file(tmp_path):
    file = tmp_path / "in.jsonl"
    told = '\ufeff"a\u2028b"\r\n\n  \n{"id": 1, "prompt": "c"}\n{"id": 1, "prompt": "d"}\n"e"'
    file.write_bytes(told.encode())
    lines = list(PromptLines(file, set()))
    assert [line.number for line in lines] == [1, 4, 5, 6]
    assert [line.prompt for line in lines] == ["a\u2028b", "c", None, "e"]
    assert lines[2].error == "the id 1 is that of line 4" and lines[2].key == ("line", 5)
    left = PromptLines(file, {("id", 1), ("line", 6)})
    assert [line.number for line in left] == [1, 5] and left.count() == (2, 2)


def test_an_id_is_not_a_line_and_a_number_no_text(tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text('"a"\n{"id": 1, "prompt": "b"}\n{"id": "1", "prompt": "c"}\n')
    assert [line.prompt for line in PromptLines(file, {("id", 1)})] == ["a", "c"]


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(RequestError, match="cannot be read"):
        PromptLines(tmp_path, set()).count()

"""Answers are added whole, and only to a file of answers."""

import json

import pytest

from mindsd.app.answer_file import AnswerFile
from mindsd.app.picture_files import CAPTIONS
from mindsd.app.prompt_lines import ANSWERS
from mindsd.errors import OutputError

WHOLE = b'{"id": "a", "text": "\xc3\xa9"}\n{"line": 2, "error": "no"}\n'
LAST = b'{"line": 3, "text": "it is"}'


@pytest.fixture
def file(tmp_path):
    return tmp_path / "out.jsonl"


def test_answers_are_there_at_once(file):
    with AnswerFile(file, ANSWERS) as answers:
        assert answers.answered == set()
        answers.add({"id": "a", "text": "\u00e9\n"})
        assert file.read_bytes() == b'{"id": "a", "text": "\xc3\xa9\\n"}\n'


@pytest.mark.parametrize("kept", range(1, len(LAST)))
def test_a_line_cut_anywhere_is_dropped(file, kept):
    file.write_bytes(WHOLE + LAST[:kept])
    with AnswerFile(file, ANSWERS) as answers:
        assert answers.answered == {("id", "a"), ("line", 2)}
        answers.add({"line": 3})
    assert file.read_bytes() == WHOLE + b'{"line": 3}\n'


def test_only_the_end_of_the_line_is_missing(file):
    file.write_bytes(WHOLE + LAST)
    with AnswerFile(file, ANSWERS) as answers:
        assert ("line", 3) in answers.answered
    assert file.read_bytes() == WHOLE + LAST + b"\n"


def test_what_is_to_be_tried_again(file):
    told = [{"image": "a", "error": "no"}, {"image": "a", "hash": "1", "text": "b"}]
    told += [{"image": "a", "hash": "2", "text": "c"}, {"image": "d", "error": "no"}]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in told))
    with AnswerFile(file, CAPTIONS) as answers:
        assert answers.answered == {CAPTIONS.key(told[1]), CAPTIONS.key(told[2])}
        assert len(answers.answered) == 2


@pytest.mark.parametrize(
    "line", ['{"image": "a", "text": "b"}', '{"image": 1, "error": "b"}', "{}"]
)
def test_lines_that_are_no_captions(file, line):
    file.write_text(f"{line}\n")
    with pytest.raises(OutputError, match="line 1 of --output .* is no answer of this command"):
        AnswerFile(file, CAPTIONS)


@pytest.mark.parametrize("held", [b"notes", b"a\nb\n", WHOLE + b"notes", b'{"prompt": "a"}\n'])
def test_another_file_is_left_as_it_is(file, held):
    file.write_bytes(held)
    with pytest.raises(OutputError, match=r"is no answer of this command; choose another file"):
        AnswerFile(file, ANSWERS)
    assert file.read_bytes() == held


def test_a_full_disk_is_said_so(file):
    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    with (
        AnswerFile(file, ANSWERS) as answers,
        pytest.raises(OutputError, match="No space left on device"),
    ):
        answers._file.close()
        answers._file = Full()  # pyright: ignore[reportAttributeAccessIssue]
        answers.add({"line": 1})


def test_numbers_that_json_has_not_are_never_written(file):
    with AnswerFile(file, ANSWERS) as answers, pytest.raises(ValueError):
        answers.add(json.loads('{"line": 1, "logprob": -Infinity}'))
    assert file.read_bytes() == b""

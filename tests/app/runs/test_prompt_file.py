from __future__ import annotations

import pytest

from mindsd.app.runs.prompt_file import LARGEST, NO_UTF_8, Row, read_prompt_file
from mindsd.errors import RequestError


@pytest.fixture
def rows(tmp_path):
    def read(name: str, content: bytes | str) -> list[Row]:
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return list(read_prompt_file(file))

    return read


def refused(rows, name, content) -> str:
    with pytest.raises(RequestError) as caught:
        rows(name, content)
    return str(caught.value)


def test_a_text_file_has_a_prompt_a_line(rows):
    told = rows("p.txt", '\ufeffa fox\r\n\r\n  two, "stars" \nthree\u2028hearts')
    assert told == [
        Row(1, {"prompt": "a fox"}),
        Row(3, {"prompt": '  two, "stars" '}),
        Row(4, {"prompt": "three\u2028hearts"}),
    ]


def test_a_table_names_its_columns(rows):
    table = (
        '\ufeffPrompt,Steps,cfg,sampler,size\r\n"a\r\nfox, red",10,2.5,Euler a,64\r\n\r\nb,,,,\r\n'
    )
    assert rows("p.csv", table) == [
        Row(
            2,
            {"prompt": "a\r\nfox, red", "steps": 10, "guidance": 2.5}
            | {"scheduler": "Euler a", "size": "64"},
        ),
        Row(5, {"prompt": "b"}),
    ]
    assert rows("p.tsv", "prompt\tn\na, b\t2\n") == [Row(2, {"prompt": "a, b", "n": 2})]


def test_json_lines_are_objects_or_texts(rows):
    told = rows("p.jsonl", '{"prompt": "a", "seed": 5, "steps": null, "token_merge": 0.5}\n"b"\n')
    assert told == [
        Row(1, {"prompt": "a", "seed": 5, "token_merge": "0.5"}),
        Row(2, {"prompt": "b"}),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense", "the line is not JSON"),
        ("[1]", "a line is an object or a text, got list"),
        ('{"prompt": "a", "guidance": NaN}', "NaN is not JSON"),
        ('{"prompt": "a", "prompt": "b"}', "prompt is said twice"),
        ('{"prompt": "a", "cfg": 1, "guidance": 2}', "guidance is said twice"),
        ('{"prompt": "a", "stesp": 3}', "unknown column 'stesp'; did you mean steps"),
        ('{"prompt": 3}', "prompt must be a text, got 3"),
        ('{"prompt": "a\\u0000"}', "the row has a NUL character"),
        ('{"prompt": "a\\ud800"}', "the row is not valid UTF-8 text"),
        ('{"steps": 3}', "column prompt is empty"),
        ("[" * 100_000, "the line is not JSON"),
    ],
)
def test_a_wrong_line_is_its_own_affair(rows, line, reason):
    told = rows("p.jsonl", f'"a"\n{line}\n"b"\n')
    assert [row.values.get("prompt") for row in told] == ["a", None, "b"]
    assert told[1].line == 2 and (told[1].error or "").startswith(reason)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("a,many,1", "column steps: 'many' is not a whole number"),
        ("a,1,much", "column guidance: 'much' is not a number"),
        ("a,1,1,1", "4 cells under 3 columns; quote commas"),
        ('"a"b,1,1', "the row is not a table's"),
        (" ,1,1", "column prompt is empty"),
        ("x" * 200_000 + ",1,1", "the row is not a table's (field larger than field limit"),
        ("a\0b,1,1", "the row has a NUL character"),
    ],
)
def test_a_wrong_row_of_a_table_is_its_own_affair(rows, cells, reason):
    told = rows("p.csv", f"prompt,steps,guidance\na,1,1\n{cells}\nb,2,2\n")
    assert [row.values.get("prompt") for row in told] == ["a", None, "b"]
    assert told[1].line == 3 and (told[1].error or "").startswith(reason)


def test_bytes_that_are_no_text_are_their_rows_affair(rows):
    for name, head in (("p.txt", b""), ("p.csv", b"prompt\n")):
        told = rows(name, head + b"a\nd\xe9j\xe0\nb\n")
        assert [row.error for row in told] == [None, NO_UTF_8, None]


def test_a_quote_that_is_never_closed_takes_the_rest(rows):
    told = rows("p.csv", 'prompt\na\n"b\nc\n')
    assert told[0].error is None and "unexpected end of data" in (told[1].error or "")
    assert told[1].line == 3 and "so lines 3 to 4 belong to it" in (told[1].error or "")


def test_a_quote_that_another_row_closes_names_the_lines_it_took(rows):
    told = rows("p.csv", 'prompt,steps\na,1\n"b,2\nc,3\n"d",4\ne,5\n')
    assert [row.values.get("prompt") for row in told] == ["a", None, "e"]
    assert told[1].line == 3 and "so lines 3 to 5 belong to it" in (told[1].error or "")
    [last] = rows("p.csv", 'prompt\n"b')
    assert "so the rest belongs to it" in (last.error or "")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("p.txt", "", "has no prompts"),
        ("p.txt", "\ufeff \n\n", "has no prompts"),
        ("p.csv", "prompt,steps\n", "has no prompts"),
        ("p.csv", "a fox,3\n", "line 1: unknown column 'a fox'"),
        ("p.csv", "steps\n3\n", "line 1: there is no column prompt"),
        ("p.csv", "prompt,stps\na,3\n", "unknown column 'stps'; did you mean steps"),
        ("p.csv", "prompt,steps,Steps\na,3,3\n", "steps is said twice"),
        ("p.csv", '"prompt', "line 1: a quote is opened here and not closed"),
        ("p.csv", '"prompt\na\n', "line 1: a quote is opened here and not closed, so lines 1 to 2"),
        ("p.csv", "prompt;steps\na;3\n", "are set apart by commas; this file uses semicolons"),
        ("p.csv", "prompt\tsteps\na\t3\n", "are set apart by commas; this file uses tabs"),
        ("p.tsv", "prompt,steps\na,3\n", "are set apart by tabs; this file uses commas"),
        ("p.csv", b"prompt,st\xe4rke\na,3\n", f"line 1: {NO_UTF_8}"),
        ("p.txt", "a fox".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("p.doc", "a fox", "a prompt file ends in .txt, .csv, .tsv, .jsonl, .ndjson"),
    ],
)
def test_a_wrong_file_is_refused(rows, name, content, reason):
    assert reason in refused(rows, name, content)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(RequestError, match="does not exist"):
        list(read_prompt_file(tmp_path / "none.txt"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(RequestError, match="is not a file"):
        list(read_prompt_file(tmp_path / "folder.csv"))


def test_a_huge_file_is_refused_unread(tmp_path):
    with open(tmp_path / "huge.txt", "wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(RequestError, match="over 64 MiB; split it"):
        list(read_prompt_file(tmp_path / "huge.txt"))

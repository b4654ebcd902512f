"""Captions as lines of a table."""

from mindsd.app.batch_progress import BatchLines
from mindsd.app.caption_lines import CaptionLines


def test_a_line_each_and_errors_elsewhere(capsys):
    with CaptionLines(BatchLines()) as captions:
        captions.add({"image": "a.png", "text": " A\tstar.\nRed\x1b[2J. "})
        captions.add({"image": "b.png", "error": "it is no picture"})
    told = capsys.readouterr()
    assert told.out == "a.png\tA star. Red[2J.\n" and told.err == "b.png: it is no picture\n"
    assert not captions.answered

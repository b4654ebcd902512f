"""Errors in one line, however they are told."""

from mindsd.app.error_line import LONGEST, one_line
from mindsd.errors import RequestError


def test_ours_speak_for_themselves():
    assert one_line(RequestError("it is\n  too long")) == "it is too long"
    assert one_line(ValueError("no\nnumber")) == "ValueError: no number"


def test_what_is_quoted_does_not_fill_the_disk():
    told = one_line(RequestError(f"got {'a' * 2**20}"))
    assert len(told) == LONGEST and told.startswith("got aaa") and told.endswith("aaa...")

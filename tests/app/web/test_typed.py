"""Numbers as they are typed."""

from __future__ import annotations

import pytest

from mindsd.app.server.refusal import Refusal
from mindsd.app.web.typed import real, seed, shown, whole


@pytest.mark.parametrize("typed", [None, "", "  "])
def test_an_empty_field_leaves_the_choice_to_the_model(typed):
    assert whole("steps", typed, 1, 9) is real("guidance", typed, 0, 9) is seed(typed) is None


def test_numbers_are_read_exactly():
    assert whole("steps", " 20 ", 1, 20) == whole("steps", 20, 20, 30) == 20
    assert seed(str(2**63 - 1)) == 2**63 - 1  # a browser's number would be rounded
    assert seed("-1") is None and seed(-1) is None
    assert real("guidance", "7.5", 0, 9) == real("guidance", "7,5", 0, 7.5) == 7.5
    assert real("g", ".5", 0, 1) == 0.5 and real("temperature", "-1", -2, 2) == -1


@pytest.mark.parametrize(
    "typed", ["1e3", "20.0", "-2", "²", "0x10", "9" * 21, "many", [1], "0", "31"]
)
def test_what_is_no_whole_number_is_refused(typed):
    with pytest.raises(Refusal, match="^steps: write a whole number, 1 to 30, or leave it empty$"):
        whole("steps", typed, 1, 30)


@pytest.mark.parametrize(
    "typed", ["1e3", "nan", "inf", "-", ".", "1.2.3", "9" * 400, "٣", "-0.1", "9.1"]
)
def test_what_is_no_number_is_refused(typed):
    with pytest.raises(Refusal, match="^guidance: write a number, 0 to 9, or leave it empty$"):
        real("guidance", typed, 0, 9)


def test_they_are_shown_as_they_are_typed():
    assert [shown(own) for own in (None, 20, 7.5, 3.0)] == ["", "20", "7.5", "3"]

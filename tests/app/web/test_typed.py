"""Numbers as they are typed."""

from __future__ import annotations

import pytest

from mindsd.app.server.refusal import Refusal
from mindsd.app.web.typed import real, seed, shown, whole


@pytest.mark.parametrize("typed", [None, "", "  "])
def test_an_empty_field_leaves_the_choice_to_the_model(typed):
    assert whole("steps", typed) is real("guidance", typed) is seed(typed) is None


def test_numbers_are_read_exactly():
    assert whole("steps", " 20 ") == 20 and whole("steps", 20) == 20
    assert seed(str(2**63 - 1)) == 2**63 - 1  # a browser's number would be rounded
    assert seed("-1") is None and seed(-1) is None
    assert real("guidance", "7.5") == real("guidance", "7,5") == 7.5 and real("g", ".5") == 0.5
    assert real("temperature", "-1") == -1


@pytest.mark.parametrize("typed", ["1e3", "20.0", "-2", "²", "0x10", "9" * 21, "many", [1]])
def test_what_is_no_whole_number_is_refused(typed):
    with pytest.raises(Refusal, match="^steps: write a whole number"):
        whole("steps", typed)


@pytest.mark.parametrize("typed", ["1e3", "nan", "inf", "-", ".", "1.2.3", "9" * 400, "٣"])
def test_what_is_no_number_is_refused(typed):
    with pytest.raises(Refusal, match="^guidance: write a number"):
        real("guidance", typed)


def test_they_are_shown_as_they_are_typed():
    assert [shown(own) for own in (None, 20, 7.5, 3.0)] == ["", "20", "7.5", "3"]

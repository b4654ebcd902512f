from __future__ import annotations

import pytest

from mindsd.app.runs.grid import describe_cell, parse_grid
from mindsd.errors import RequestError


def test_the_last_axis_changes_fastest():
    cells = parse_grid(["steps=10,20", "cfg=5,7.5"])
    assert [describe_cell(cell) for cell in cells] == [
        "steps 10, guidance 5",
        "steps 10, guidance 7.5",
        "steps 20, guidance 5",
        "steps 20, guidance 7.5",
    ]
    assert parse_grid([]) == [()]
    assert parse_grid(["sampler=Euler a, DDIM"])[1] == (("scheduler", "DDIM"),)


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        (["steps"], "'steps' is not NAME=VALUE,VALUE"),
        (["stesp=1,2"], "did you mean steps"),
        (["steps=1,x"], "column steps: 'x' is not a whole number"),
        (["steps=1,,2"], "has an empty value"),
        (["seed=1,2"], "there is no grid of seed"),
        (["steps=1", "steps=2"], "says steps twice"),
        (
            ["steps=" + ",".join(map(str, range(1, 50)))]
            + ["cfg=" + ",".join("1234567890" * 3)]
            + ["guidance_until=0.1,0.2,0.3"],
            "has 1470 cells, over 1000",
        ),
    ],
)
def test_a_wrong_grid_is_refused(axes, reason):
    with pytest.raises(RequestError, match=reason):
        parse_grid(axes)

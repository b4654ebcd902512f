"""Sampling parameters: what is refused, in which words, and what is kept."""

import dataclasses
import math

import pytest

from mindsd.errors import RequestError
from mindsd.sampling.parameters import Sampling

WRONG = {
    "max_tokens": [0, -1, 1.0, True, "9", None],
    "min_tokens": [-1, 2.5, False, None],
    "temperature": [-0.1, math.nan, math.inf, 100.5, "1", True, None, 10**400],
    "top_k": [-1, 1.5, True],
    "top_p": [0, 0.0, 1.01, -0.5, math.nan, "0.9"],
    "min_p": [-0.01, 1.01, math.nan],
    "repetition_penalty": [0, -1, math.inf, math.nan, 10**400],
    "presence_penalty": [-2.1, 2.1, math.nan],
    "frequency_penalty": [-2.1, 2.1, None],
    "seed": [1.5, "7", True, 2**64, -(2**63) - 1],
    "logprobs": [-1, 21, True],
    "ignore_eos": [1, "yes", None],
    "n": [0, 129, 1.0],
    "stop": [[""], ["a", 5], 5, None, b"end", ["x"] * 17],
    "stop_token_ids": [[-1], [1.0], [True], 7, "7", None],
    "logit_bias": [{1: 101}, {1: math.nan}, {-1: 1}, {"1": 1}, {True: 1}, {1: "2"}, 5, "ab", [1]],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in WRONG.items() for v in vs])
def test_a_wrong_value_is_refused_by_its_name(name, value):
    with pytest.raises(RequestError, match=name):
        Sampling(**{name: value})


def test_every_parameter_is_checked():
    assert set(WRONG) == {field.name for field in dataclasses.fields(Sampling)}


def test_a_refusal_says_the_range_and_the_value():
    with pytest.raises(RequestError, match=r"^top_p is a number above 0 to 1, got 1\.5$"):
        Sampling(top_p=1.5)
    with pytest.raises(RequestError, match=r"^top_k is a whole number from 0 up, got -1$"):
        Sampling(top_k=-1)
    with pytest.raises(RequestError, match=r"min_tokens is at most max_tokens \(4\), got 5"):
        Sampling(max_tokens=4, min_tokens=5)
    with pytest.raises(RequestError, match="token 3 twice"):
        Sampling(logit_bias=[(3, 1.0), (3, 1.0)])


def test_the_ends_of_the_ranges_are_inside():
    Sampling(max_tokens=1, min_tokens=1, temperature=0, top_k=0, top_p=1, min_p=1, n=128)
    Sampling(temperature=100, top_p=1e-9, presence_penalty=-2, frequency_penalty=2, logprobs=20)
    Sampling(seed=2**64 - 1, stop=["x"] * 16, repetition_penalty=1e-9, logit_bias={0: -100})


def test_lists_become_tuples_so_that_equal_parameters_are_one_key():
    one = Sampling(stop="end", stop_token_ids=[5, 2], logit_bias={9: 1, 2: -3.5}, temperature=1)
    assert (one.stop, one.stop_token_ids) == (("end",), (5, 2))
    assert one.logit_bias == ((2, -3.5), (9, 1.0))
    assert isinstance(one.temperature, float)
    assert one == Sampling(stop=["end"], stop_token_ids=(5, 2), logit_bias=[(9, 1.0), (2, -3.5)])
    assert len({one, dataclasses.replace(one)}) == 1


def test_parse_takes_what_json_can_say():
    body = {"top_p": 0.9, "seed": None, "stop": None, "logit_bias": {"50": 2}, "max_tokens": 7}
    assert Sampling.parse(body) == Sampling(top_p=0.9, logit_bias={50: 2.0}, max_tokens=7)
    assert Sampling.parse({}) == Sampling()
    for key in ("-5", "x", "1.0", "٣", "9" * 5000):
        with pytest.raises(RequestError, match="a token of logit_bias"):
            Sampling.parse({"logit_bias": {key: 1}})


def test_parse_refuses_an_unknown_name_and_tells_the_nearest():
    with pytest.raises(RequestError, match="'temprature'; did you mean 'temperature'"):
        Sampling.parse({"temprature": 1})
    with pytest.raises(RequestError, match="'xyzzy'; known are max_tokens, min_tokens"):
        Sampling.parse({"xyzzy": None})
    with pytest.raises(RequestError, match="names with values"):
        Sampling.parse(["top_p"])  # pyright: ignore[reportArgumentType]

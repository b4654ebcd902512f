"""A group that fails is halved; only the culprit hears of it."""

import math
import warnings

import pytest
import torch

from mindsd.batching.attempt import attempt
from mindsd.batching.call import Batchable, read
from mindsd.batching.counts import Counts
from mindsd.errors import OutOfMemory


class Module:
    """Doubles its rows; breaks on a poisoned row, and above `limit` rows."""

    def __init__(self, limit=99, message=None):
        self.limit, self.message, self.sizes = limit, message, []

    def forward(self, sample):
        self.sizes.append(len(sample))
        if len(sample) > self.limit:
            if self.message:
                raise RuntimeError(self.message)
            raise torch.OutOfMemoryError("CUDA out of memory")
        if (sample < 0).any():
            raise ValueError("poisoned")
        return sample * 2


def calls_of(batchable, values):
    found = [read(batchable, (torch.full((1, 2), float(v)),), {}) for v in values]
    return [call for call in found if call is not None]


def group(module, values):
    batchable = Batchable(module.forward, "denoise")
    return calls_of(batchable, values)


def test_an_error_reaches_only_the_call_that_causes_it():
    outcomes = attempt(group(Module(), [1, 2, -3, 4]), Counts())
    assert [type(outcome.error) for outcome in outcomes] == [
        type(None),
        type(None),
        ValueError,
        type(None),
    ]
    assert [o.value[0, 0].item() for o in outcomes if o.error is None] == [2, 4, 8]


@pytest.mark.parametrize(
    "message",
    [None, "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"],
)
def test_memory_that_runs_out_costs_a_smaller_group_not_a_result(message):
    module, counts = Module(limit=2, message=message), Counts()
    calls = group(module, [1, 2, 3, 4])
    outcomes = attempt(calls, counts)
    assert [o.value[0, 0].item() for o in outcomes] == [2, 4, 6, 8]
    assert module.sizes == [4, 2, 1, 1, 2]  # two alone prove that the stacked rows are right
    assert (counts.forwards, counts.rows, counts.splits) == ({"denoise": 2}, {"denoise": 4}, 1)
    assert calls[0].batchable.caps.rows(calls[0].key, 32) == 2


def test_one_call_that_does_not_fit_alone_is_told_so():
    (outcome,) = attempt(group(Module(limit=0), [1]), Counts())
    assert isinstance(outcome.error, OutOfMemory)
    assert "1 rows does not fit" in str(outcome.error) and "smaller size" in str(outcome.error)


def test_results_that_are_not_rows_make_every_call_run_alone_from_then_on():
    batchable = Batchable(lambda sample: sample.sum(), "denoise")
    with pytest.warns(RuntimeWarning, match="cannot be divided into 3 rows"):
        outcomes = attempt(calls_of(batchable, [1, 2, 3]), Counts())
    assert [outcome.value.item() for outcome in outcomes] == [2, 4, 6]
    assert batchable.alone


def test_rows_that_know_of_each_other_make_every_call_run_alone_from_then_on():
    batchable = Batchable(lambda sample: sample - sample.mean(0), "denoise", name="unet")
    with pytest.warns(RuntimeWarning, match="unet cannot serve several requests in one forward"):
        outcomes = attempt(calls_of(batchable, [1, 2, 3]), Counts())
    assert [outcome.value.abs().max().item() for outcome in outcomes] == [0, 0, 0]
    calls = calls_of(batchable, [1, 2])
    assert batchable.alone and not calls[0].fits(calls[1])


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.filterwarnings("ignore:unet cannot serve")
def test_8_bits_may_differ_by_more_than_rounding_in_company(rounded):
    batchable = Batchable(
        lambda sample: sample * (1 + 0.04 * (len(sample) > 1)), "denoise", "unet", rounded
    )
    attempt(calls_of(batchable, [1, 2, 3]), Counts())
    assert batchable.alone is not rounded


def test_a_form_is_proven_once():
    module = Module()
    batchable = Batchable(module.forward, "denoise")
    for values in ([1, 2, 3], [4, 5], [6, 7, 8]):
        attempt(calls_of(batchable, values), Counts())
    assert module.sizes == [3, 1, 1, 2, 3]


@pytest.mark.parametrize("values", [[math.nan, 1], [1, math.nan], [3, 3]], ids=str)
def test_rows_that_are_no_numbers_or_equal_prove_nothing(values):
    batchable = Batchable(lambda sample: sample * 2, "denoise")
    attempt(calls_of(batchable, values), Counts())
    assert not batchable.alone and not batchable.proven


@pytest.mark.parametrize("values", [[math.nan, 1, 2], [1, 2, math.nan]], ids=str)
def test_a_neighbour_that_is_no_number_may_not_spoil_a_row(values):
    batchable = Batchable(lambda sample: sample - sample.mean(0), "denoise")
    with pytest.warns(RuntimeWarning, match="rows depend on each other"):
        outcomes = attempt(calls_of(batchable, values), Counts())
    assert sum(o.value.isfinite().all().item() for o in outcomes) == 2


def test_what_is_given_out_in_the_order_of_rows_is_seen():
    def first_come(sample):
        return torch.cat([sample[:1] * 2, sample[1:]])

    batchable = Batchable(first_come, "denoise")
    with pytest.warns(RuntimeWarning, match="rows depend on each other"):
        outcomes = attempt(calls_of(batchable, [1, 2, 3]), Counts())
    assert [o.value[0, 0].item() for o in outcomes] == [2, 4, 6]


def test_warnings_that_are_errors_are_no_requests_errors():
    batchable = Batchable(lambda sample: sample.sum(), "denoise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcomes = attempt(calls_of(batchable, [1, 2]), Counts())
    assert [outcome.value.item() for outcome in outcomes] == [2, 4]


def test_a_group_that_fails_though_its_calls_do_not_is_not_tried_again():
    module = Module(limit=1, message="this kernel takes one row")
    batchable, counts = Batchable(module.forward, "denoise"), Counts()
    outcomes = attempt(calls_of(batchable, [1, 2, 3]), counts)
    assert counts.splits == 0
    assert [o.value[0, 0].item() for o in outcomes] == [2, 4, 6]
    assert batchable.caps.rows(calls_of(batchable, [1])[0].key, 32) == 1


def test_an_error_of_one_call_caps_nothing():
    calls = group(Module(), [1, -2, 3, 4])
    attempt(calls, Counts())
    assert calls[0].batchable.caps.rows(calls[0].key, 32) == 32


def test_what_a_call_gets_back_keeps_no_other_rows_alive():
    outcomes = attempt(group(Module(), [1, 2, 3, 4]), Counts())
    assert all(o.value.untyped_storage().nbytes() == o.value.nbytes for o in outcomes)

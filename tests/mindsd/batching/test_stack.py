"""Several calls as one forward give each its own rows."""

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

from mindsd.batching.call import Batchable, read
from mindsd.batching.stack import Listed, NotRows, merge, run


def calls(function, *arguments):
    batchable = Batchable(function, "denoise")
    found = [read(batchable, args, {}) for args in arguments]
    return [call for call in found if call is not None]


def scale(sample, timestep):
    return UNet2DConditionOutput(sample=sample * timestep.reshape(-1, 1))


def test_each_call_gets_its_own_rows_with_its_own_time_step():
    group = calls(scale, (torch.ones(2, 3), torch.tensor(5)), (torch.ones(1, 3), torch.tensor([7])))
    (first, second), _ = run(group)
    assert isinstance(first, UNet2DConditionOutput)
    assert torch.equal(first.sample, torch.full((2, 3), 5))
    assert torch.equal(second.sample, torch.full((1, 3), 7))


def test_a_group_of_one_runs_the_very_call_that_was_made():
    seen = []
    x, t = torch.ones(2, 3), torch.tensor(5)
    run(calls(lambda sample, timestep: seen.extend([sample, timestep]), (x, t)))
    assert seen[0] is x and seen[1] is t


def test_lists_are_joined_and_divided():
    def double(x, t):
        return ([item * 2 for item in x],)

    group = calls(
        double,
        ([torch.ones(1), torch.ones(1) * 2], torch.zeros(2)),
        ([torch.ones(1) * 3], torch.zeros(1)),
    )
    ((first,), (second,)), _ = run(group)
    assert [item.item() for item in first] == [2, 4]
    assert [item.item() for item in second] == [6]


def test_nothing_is_shared_that_is_not_rows():
    group = calls(lambda sample: (sample, None), (torch.ones(2, 3),), (torch.ones(1, 3),))
    assert run(group)[0][1][1] is None
    for odd in (object(), torch.ones(7), torch.tensor(1.0)):
        group = calls(lambda sample, odd=odd: odd, (torch.ones(2, 3),), (torch.ones(1, 3),))
        with pytest.raises(NotRows):
            run(group)


def test_parts_that_list_their_rows_merge_in_the_rows_order():
    rows = [torch.full((3,), float(n)) for n in range(3)]
    merged = merge([(Listed([rows[1]]),), (Listed([rows[0], rows[2]]),)], [[1], [0, 2]])
    assert isinstance(merged[0], Listed)
    assert all(mine is its for mine, its in zip(merged[0], rows, strict=True))

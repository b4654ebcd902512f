"""Which argument is a row, which is spread, which must be equal."""

import torch
from torch.utils import _pytree as pytree

from mindsd.batching.call import Batchable, Role, read, spread


def denoise(sample, timestep, text, scale=1.0, img_ids=None, residuals=None, extra=None):
    return sample


def call(*args, **kwargs):
    found = read(BATCHABLE, args, kwargs)
    assert found is not None
    return found


BATCHABLE = Batchable(denoise, "denoise")
X, T = torch.zeros(2, 4, 8, 8), torch.tensor(981)
TEXT = torch.zeros(2, 7, 32)


def roles(found):
    return pytree.tree_unflatten(found.roles, found.spec)


def test_rows_are_told_by_the_first_argument():
    found = call(X, T, TEXT)
    assert found.rows == 2
    assert roles(found) == {"sample": Role.ROWS, "timestep": Role.SPREAD, "text": Role.ROWS}


def test_keyword_and_positional_calls_meet():
    assert call(X, T, TEXT).fits(call(sample=X, text=TEXT, timestep=T))


def test_arguments_go_as_they_came():
    """A decorator may look for one of them among the named ones, as diffusers' do for LoRA."""
    args, kwargs = call(X, T, text=TEXT, scale=0.5).arguments()
    assert [own is given for own, given in zip(args, (X, T), strict=True)] == [True, True]
    assert list(kwargs) == ["text", "scale"] and kwargs["text"] is TEXT
    assert call(X, T, TEXT).arguments() == ((X, T, TEXT), {})
    rest = Batchable(lambda sample, *others, time, **more: sample, "denoise")
    found = read(rest, (X, 1, 2), {"time": T, "scale": 3})
    assert found is not None and found.arguments() == ((X, 1, 2), {"time": T, "scale": 3})


def test_any_form_of_a_time_step_fits_its_spread_form():
    scalar, one, full = call(X, T, TEXT), call(X, T[None], TEXT), call(X, T.expand(2), TEXT)
    number = call(X, 981, TEXT)
    assert scalar.key == one.key == full.key == number.key
    assert call(X, 981.5, TEXT).key != scalar.key  # another dtype


def test_row_counts_may_differ_but_shapes_may_not():
    assert call(X, T, TEXT).fits(call(X[:1], T, TEXT[:1]))
    assert not call(X, T, TEXT).fits(call(torch.zeros(2, 4, 8, 16), T, TEXT))
    assert not call(X, T, TEXT).fits(call(X, T, TEXT.double()))


def test_constants_must_be_equal():
    assert not call(X, T, TEXT, scale=1.0).fits(call(X, T, TEXT, scale=0.5))
    assert not call(X, T, TEXT, scale=1.0).fits(call(X, T, TEXT, scale=True))
    table = torch.arange(21).reshape(7, 3)
    assert call(X, T, TEXT, img_ids=table).fits(call(X, T, TEXT, img_ids=table.clone()))
    assert not call(X, T, TEXT, img_ids=table).fits(call(X, T, TEXT, img_ids=table + 1))


def test_a_position_table_is_no_row_even_when_its_length_is_the_row_count():
    assert roles(call(X, T, TEXT, img_ids=torch.zeros(2, 3)))["img_ids"] is Role.EQUAL


def test_objects_that_are_not_values_never_fit():
    assert not call(X, T, TEXT, extra=torch.Generator()).fits(
        call(X, T, TEXT, extra=torch.Generator())
    )


def test_nested_tensors_are_rows_too():
    found = call(X, T, TEXT, residuals=[X, X], extra={"time_ids": torch.zeros(2, 6)})
    assert found.roles.count(Role.ROWS) == 5


def test_models_that_take_lists_have_one_item_per_row():
    items = [torch.zeros(4, 1, 8, 8), torch.zeros(4, 1, 8, 8)]
    found = call(items, torch.zeros(2), [torch.zeros(5, 32), torch.zeros(9, 32)])
    assert found.rows == 2
    assert list(roles(found).values()) == [Role.ITEMS, Role.ROWS, Role.ITEMS]
    swapped = call(items, torch.zeros(2), [torch.zeros(9, 32), torch.zeros(5, 32)])
    other = call(items, torch.zeros(2), [torch.zeros(9, 32), torch.zeros(9, 32)])
    assert found.fits(swapped) and not found.fits(other)


def test_a_module_that_empties_its_lists_does_so_to_a_copy():
    def empty(sample, residuals):
        return sample + residuals.pop()

    found = read(Batchable(empty, "denoise"), (X, [X + 1]), {})
    assert found is not None
    assert all(torch.equal(found.run(), X + 1) for _ in range(2))


def test_a_time_step_goes_where_the_rows_are():
    where = torch.device("meta")
    assert spread(981, 2, where).device == spread(T, 2, where).device == where


def test_a_call_without_rows_is_not_one():
    assert read(BATCHABLE, (3, T, TEXT), {}) is None
    assert read(BATCHABLE, (torch.tensor(3.0), T, TEXT), {}) is None


def test_a_method_that_failed_to_give_rows_fits_nothing_any_more():
    alone = Batchable(denoise, "denoise", alone=True)
    first, second = read(alone, (X, T, TEXT), {}), read(alone, (X, T, TEXT), {})
    assert first is not None and second is not None and not first.fits(second)

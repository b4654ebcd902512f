"""Caps are learned at once and forgotten slowly."""

from mindsd.batching.caps import KEYS, PATIENCE, Caps


def test_a_group_is_as_large_as_allowed_until_one_fails():
    caps = Caps()
    assert caps.rows("key", 32) == 32
    caps.failed("key", 8)
    assert caps.rows("key", 32) == 8 and caps.rows("key", 4) == 4 and caps.rows("other", 32) == 32


def test_a_cap_that_held_for_a_while_is_tried_anew():
    caps = Caps()
    caps.failed("key", 8)
    for _ in range(PATIENCE - 1):
        caps.went_well("key", 8)
    assert caps.rows("key", 32) == 8
    caps.went_well("key", 8)
    assert caps.rows("key", 32) == 16
    caps.failed("key", 8)
    assert caps.rows("key", 32) == 8


def test_small_groups_say_nothing_about_a_cap():
    caps = Caps()
    caps.failed("key", 8)
    for _ in range(2 * PATIENCE):
        caps.went_well("key", 2)
    assert caps.rows("key", 32) == 8


def test_old_caps_are_dropped():
    caps = Caps()
    for key in range(KEYS + 1):
        caps.failed(key, 2)
    assert caps.rows(0, 32) == 32 and caps.rows(1, 32) == 2

"""The uniform number: SplitMix64 itself, uniform, and unrelated between seeds and positions."""

from itertools import pairwise

from mindsd.sampling.uniform import GOLDEN, _mix, uniform


def test_it_is_splitmix64():
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]  # of seed 1234567
    assert [_mix(1234567 + (i + 1) * GOLDEN) for i in range(3)] == published


def test_it_is_a_pure_function_and_stays_below_one():
    seeds = [0, 1, -1, 2**63, 2**64 - 1, 2**70]
    numbers = {(seed, at): uniform(seed, at) for seed in seeds for at in range(100)}
    assert all(uniform(*key) == number for key, number in numbers.items())
    assert all(0 <= number < 1 for number in numbers.values())
    assert uniform(-1, 5) == uniform(2**64 - 1, 5)


def test_near_seeds_and_positions_share_no_number_and_fill_the_square_evenly():
    numbers = [[uniform(seed, at) for at in range(128)] for seed in range(128)]
    assert len({number for row in numbers for number in row}) == 128 * 128
    for pairs in (
        [pair for row in numbers for pair in pairwise(row)],
        [pair for column in zip(*numbers, strict=True) for pair in pairwise(column)],
    ):
        cells = [0] * 64
        for a, b in pairs:
            cells[int(a * 8) * 8 + int(b * 8)] += 1
        mean = len(pairs) / 64
        assert sum((cell - mean) ** 2 / mean for cell in cells) < 115  # 63 degrees: p of 1e-4

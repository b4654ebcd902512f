"""The uniform number that draws a token."""

GOLDEN = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio
WORD = 2**64 - 1


def uniform(seed: int, position: int) -> float:
    """A multiple of 2**-53 in [0, 1), a pure function of both.

    It is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014)
    at its `position`-th number, begun at the hash of the seed so that near seeds have no number in
    common. Of the seed only the low 64 bits count.
    """
    return (_mix(_mix(seed + GOLDEN) + (position + 1) * GOLDEN) >> 11) * 2.0**-53


def _mix(word: int) -> int:
    """All 64 bits, each depending on all (Stafford's variant 13)."""
    word &= WORD
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & WORD
    return word ^ word >> 31

"""Whether two models say the same, token for token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vision_job import Found

TIE = 1e-3  # logits this close together may be exchanged by rounding


def compared(
    case: str, dtype: str, found: Mapping[str, Sequence[Found]], exact: Sequence[str]
) -> str:
    """A sentence: that the tokens of the ways in `exact` are those of `generate`.

    Raises:
        SystemExit: they are not.
    """
    if dtype != "float32":
        return f"tokens are not compared with generate's: {dtype} rounds too much"
    right, ties, checked = found["generate"][0], 0, 0
    for way in exact:
        for run in found[way]:
            ties += tied(f"{case}, {way}", run, right)
            checked += len(run.tokens)
    until = f", {ties} of them up to a tie of two logits" if ties else ""
    return f"{checked} answers of mindsd are generate's, token for token{until}"


def tied(name: str, own: Found, right: Found) -> int:
    """How many answers are those of `generate` up to a tie only; none differs otherwise.

    Raises:
        SystemExit: one does.
    """
    ties = 0
    for number, answers in enumerate(zip(own.tokens, right.tokens, right.margins, strict=True)):
        place = parted(*answers)
        if place is None:
            continue
        said, wanted, ahead = (answer[place] for answer in answers)
        if ahead > TIE:
            raise SystemExit(
                f"{name}: answer {number} is not generate's: token {place} is {said}, not "
                f"{wanted}, which is ahead by {ahead:.4f}"
            )
        ties += 1
    return ties


def parted(own: Sequence[int], other: Sequence[int], margins: Sequence[float]) -> int | None:
    """The first place at which two answers differ.

    Raises:
        SystemExit: one is longer than the other.
    """
    if len(own) != len(other) or len(own) != len(margins):
        raise SystemExit(f"answers of {len(own)} and {len(other)} tokens cannot be compared")
    return next(
        (i for i, pair in enumerate(zip(own, other, strict=True)) if len(set(pair)) > 1), None
    )

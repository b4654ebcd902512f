"""Which images are drawn together.

Images of one batch differ from the same drawn alone by rounding, a pixel or two by one step of 255.
So that a resumed run gives the very bytes of an uninterrupted one, those that were begun together
and stopped are drawn together again, all of them, though some may be there already; and only images
that do the same in each step are begun together, so that they keep company until the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .plan import Job

TOGETHER = 8  # images, unless something else is said


@dataclass(frozen=True)
class Company:
    """Images that are drawn together, and which of them are to be kept."""

    jobs: tuple[Job, ...]
    missing: frozenset[str]


def companies(
    jobs: Sequence[Job],
    missing: Iterable[str],
    interrupted: Iterable[Sequence[str]],
    together: int,
) -> list[Company]:
    """Every missing image in one company, those that were interrupted first.

    Args:
        jobs: all of the plan.
        missing: keys of those to draw.
        interrupted: keys of each company that did not come to its end.
        together: most images in a new company.
    """
    known, left = {job.key: job for job in jobs}, set(missing)
    found: list[Company] = []
    for keys in interrupted:
        own = left & set(keys)
        if own:
            again = tuple(known[key] for key in keys if key in known)
            found.append(Company(again, frozenset(own)))
            left -= own
    alike: dict[str, list[Job]] = {}
    for job in jobs:
        if job.key in left:
            alike.setdefault(_kind(job), []).append(job)
    new = [
        Company(tuple(part), frozenset(job.key for job in part))
        for own in alike.values()
        for part in (own[i : i + together] for i in range(0, len(own), together))
    ]
    return found + sorted(new, key=lambda company: company.jobs[0].number)


def _kind(job: Job) -> str:
    """The same for images that do the same in each step: all but what they show."""
    asked = job.asked
    guided = asked.parameters.negative_prompt is not None
    plain = replace(asked.parameters, prompt="", negative_prompt=None, seed=0)
    return repr((asked.model, plain, guided, sorted(asked.pictures)))

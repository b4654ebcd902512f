from __future__ import annotations

from mindsd.app.runs.asking import Asked
from mindsd.app.runs.company import companies
from mindsd.app.runs.plan import Job
from mindsd.pipelines.parameters import ImageParameters


def jobs(*steps: int, **more) -> list[Job]:
    return [
        Job(number, number, f"k{number}", Asked("m", ImageParameters("p", steps=own, **more), {}))
        for number, own in enumerate(steps, 1)
    ]


def told(found) -> list[tuple[str, str]]:
    return [("".join(j.key for j in one.jobs), "".join(sorted(one.missing))) for one in found]


def test_images_that_do_the_same_are_drawn_together():
    plan = jobs(4, 8, 4, 4, 8)
    missing = [job.key for job in plan]
    assert told(companies(plan, missing, [], 2)) == [
        ("k1k3", "k1k3"),
        ("k2k5", "k2k5"),
        ("k4", "k4"),
    ]
    assert told(companies(plan, ["k4"], [], 2)) == [("k4", "k4")]


def test_interrupted_companies_come_first_and_whole():
    plan = jobs(4, 4, 4, 4, 4)
    groups = [["k1", "k2"], ["k1", "k2"], ["gone", "k4"], ["gone"]]
    assert told(companies(plan, ["k2", "k4", "k5"], groups, 2)) == [
        ("k1k2", "k2"),
        ("k4", "k4"),
        ("k5", "k5"),
    ]


def test_a_resume_begins_the_same_companies():
    plan = jobs(*[4, 8, 4] * 7)
    whole = companies(plan, [job.key for job in plan], [], 4)
    for ended in range(len(whole)):
        there = {job.key for one in whole[:ended] for job in one.jobs}
        part = whole[ended].jobs[:1]
        missing = [j.key for j in plan if j.key not in there and j not in part]
        resumed = companies(plan, missing, [[j.key for j in whole[ended].jobs]], 4)
        assert [one.jobs for one in resumed] == [one.jobs for one in whole[ended:]]

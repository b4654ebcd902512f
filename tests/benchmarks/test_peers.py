"""The arithmetic and the turns of the comparison with peers, who themselves do not run here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.peers.cases import cases
from benchmarks.peers.job import Job, Measured
from benchmarks.peers.tables import kept, markdown, speedup, spread, steps_run, timed
from benchmarks.peers.turns import Failed, ask, run
from benchmarks.peers.worker import sizes

COMMON = Job("", "", {}, 0, 0, 2, "float32")


def measured(seconds: float = 4.0, whole: str = "1001") -> Measured:
    return Measured(seconds, seconds / 2, [2.0, 0.5, 0.5, 1.0], whole, 4 << 20, 2 << 20)


def case_of(name: str):
    return next(case for case in cases(COMMON, 64, 4, 0.6) if case.name == name)


def test_jobs_and_answers_survive_the_way():
    job = replace(COMMON, settings={"mask": "10"}, tiny=True)
    assert Job.parse(str(job)) == job
    assert Measured.parse(str(measured())) == measured()


def test_a_round_is_compared_with_its_own_plain_run():
    assert speedup([10, 20, 40], [5, 5, 40]) == 2  # of 2, 4, 1; the medians' ratio would be 4


def test_a_table_of_times():
    first, second = ["8.00", "1.00x", "4.00", "1.00x"], ["4.00", "2.00x", "2.00", "2.00x"]
    lines = timed({"plain": [measured(8, "1111")], "ours": [measured(4)]}, "plain").splitlines()
    assert lines[2].split(" | ")[1:8] == [*first, "4 of 4 (1111)", "0.750", "-"]
    assert lines[3].split(" | ")[1:8] == [*second, "2 of 4 (1001)", "1.500", "0.500"]


def test_several_rounds_show_their_spread():
    assert spread([8.0, 4.0, 5.0]) == "5.00 (4.00-8.00)"
    assert spread([8.0]) == "8.00"


def test_a_table_of_memory():
    assert kept({"ours": [measured()]}).splitlines()[-1] == "| ours | 4.0 | 2.0 |"
    assert markdown(["a"], [["b"]]) == "| a |\n| --- |\n| b |"


def test_rounds_that_ran_other_steps_are_told():
    assert steps_run([measured(), measured(), measured(whole="1000")]) == (
        "2 of 4 (1001), 1 of 4 (1000)"
    )


def test_ways_take_turns_and_follow_the_leaders_steps():
    asked: list[Job] = []

    def ask(job: Job) -> Measured:
        asked.append(job)
        return measured()

    told: list[str] = []
    results = run(case_of("dit"), 2, ask, told.append)
    tools = ["first-block-cache", "plain", "cache-dit", "mindsd", "mindsd"]
    assert [job.tool for job in asked] == tools * 2
    assert asked[2].settings == {"mask": "1001"}
    assert asked[3].settings == {"step_cache": "plan:1001,last=0,least=1"}
    assert asked[4].settings == {**asked[3].settings, "layers": "off"}
    assert len(told) == 10 and all(len(own) == 2 for own in results.values())


def test_a_leader_that_runs_all_leaves_nothing_to_compare():
    with pytest.raises(Failed, match="ran all 4 steps whole"):
        run(case_of("dit"), 1, lambda job: measured(whole="1111"), lambda what: None)


def test_memory_behind_tensors_counts_once_and_whole():
    whole, ids = torch.zeros(1000), torch.zeros(10, dtype=torch.int64)
    state = {"a": (whole, [whole[:2]]), "b": measured(), "c": ids}
    assert sizes(state) == (4000 + 80, 2000 + 80)


def test_a_measurement_that_fails_says_why():
    with pytest.raises(Failed, match="nobody.* on sd15 failed: KeyError: 'nobody'"):
        ask(replace(COMMON, model="sd15", tool="nobody", size=64, tiny=True, timed=False))

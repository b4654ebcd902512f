"""Runs a case's ways in turns, each in a process of its own: A B C ... A B C ..."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from .cases import Case
from .environments import interpreter
from .job import Job, Measured

HERE = Path(__file__).parents[1]


class Failed(Exception):
    """A measurement did not succeed; the message says which and why."""


def run(
    case: Case, rounds: int, ask: Callable[[Job], Measured], told: Callable[[str], None]
) -> dict[str, list[Measured]]:
    """What each way measured in each round.

    Args:
        told: called with what runs next.

    Raises:
        Failed: a measurement failed, or the leader leaves nothing to repeat.
    """
    results: dict[str, list[Measured]] = {way.name: [] for way in case.ways}
    mask = ""
    for turn in range(rounds):
        for way in case.ways:
            told(f"{case.title}, round {turn + 1} of {rounds}: {way.name}")
            measured = ask(case.asks(way, mask))
            results[way.name].append(measured)
            if way.name == case.leader:
                mask = _checked(way.name, measured.whole)
    return results


def ask(job: Job) -> Measured:
    """Run a job in its tool's environment.

    Raises:
        Failed: it did not succeed.
    """
    command = [str(interpreter(job.tool)), "-m", "peers.worker", str(job)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(job.threads),
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with subprocess.Popen(
        command,
        cwd=HERE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            answer, complaint = process.communicate()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        why = _why(process.returncode, complaint)
        raise Failed(f"{job.tool} {job.settings} on {job.model} failed: {why}")
    return Measured.parse(answer)


def _why(status: int, complaint: str) -> str:
    """A signal leaves no words of its own: what stderr ends with are only warnings."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (too little memory?)" if name == "SIGKILL" else "")
    return (complaint.strip().splitlines() or [f"exit status {status}"])[-1]


def _checked(name: str, whole: str) -> str:
    if "0" not in whole:
        raise Failed(
            f"{name} ran all {len(whole)} steps whole, so there is nothing to compare; "
            "say a higher --threshold or more --steps"
        )
    return whole

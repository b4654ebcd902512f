"""Runs ways in turns, each in a process of its own: A B C ... A B C ..."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..environments import FOLDER, NoEnvironment
from .environments import interpreter
from .job import Job, Measured
from .ways import Way

HERE = Path(__file__).parents[2]
PATIENCE = 900  # seconds of one process, loading and compiling included


class Failed(Exception):
    """A measurement did not succeed; the message says why."""


@dataclass
class Results:
    """What came of it.

    Attributes:
        measured: by a way's name, one for each round.
        left_out: by a way's name, why it could not run.
    """

    measured: dict[str, list[Measured]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def run(
    ways: Sequence[Way],
    rounds: int,
    ask: Callable[[Way], Measured],
    told: Callable[[str], None],
) -> Results:
    """What each way measured in each round; one that fails is left out from then on.

    Args:
        told: called with what runs next.
    """
    results = Results()
    for turn in range(rounds):
        for way in ways:
            if way.name in results.left_out:
                continue
            told(f"round {turn + 1} of {rounds}: {way.title}")
            try:
                results.measured.setdefault(way.name, []).append(ask(way))
            except (Failed, NoEnvironment) as error:
                results.left_out[way.name] = str(error)
                results.measured.pop(way.name, None)
    return results


def ask(job: Job) -> Measured:
    """Run a job in its engine's environment.

    Raises:
        Failed: it did not succeed.
        NoEnvironment: the engine cannot be installed.
    """
    command = [str(interpreter(job.engine)), "-m", "peers.language.worker", str(job)]
    process = subprocess.Popen(
        command,
        cwd=HERE,
        env=environment(job),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # some engines run in further processes, which end with it
    )
    try:
        answer, complaint = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{job.engine} gave no answer in {PATIENCE} s") from error
    finally:
        _end(process)
    if process.returncode:
        raise Failed(_why(process.returncode, complaint))
    return Measured.parse(answer.strip().splitlines()[-1])


def environment(job: Job) -> dict[str, str]:
    """Of the process: the threads that it may have, and no look at the network."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(job.threads),
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{job.threads - 1}",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
        "VLLM_CACHE_ROOT": str(FOLDER / "language-vllm" / "cache"),
        "VLLM_LOGGING_LEVEL": "ERROR",
    }


def _end(process: subprocess.Popen[str]) -> None:
    """The process and those that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # all have ended by themselves
        pass
    process.wait()


def _why(status: int, complaint: str) -> str:
    """A signal leaves no words of its own: what stderr ends with are only warnings."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (too little memory?)" if name == "SIGKILL" else "")
    return (complaint.strip().splitlines() or [f"exit status {status}"])[-1]

"""A peer that runs a forward in a process of its own and waits there while others have their turns.

It first tells that it is ready, then answers each line with what its turn took, and ends when there
are no more lines.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from .environments import interpreter

HERE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Asked:
    """What a process is for.

    Attributes:
        tool: a name of TOOLS in waiting_worker.py.
        model: a name of MODELS in forwards.py.
        dtype: of weights and inputs, "float32" or "bfloat16".
        clock: a function of the module time.
        tiny: few channels, to try the command.
        output: a file for what the forward gave.
    """

    tool: str
    model: str
    dtype: str
    threads: int
    clock: str = "perf_counter"
    tiny: bool = False
    output: str = ""

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Asked:
        return cls(**json.loads(text))


class Failed(Exception):
    """A peer's process ended; the message says why."""


class Waiting:
    """A process that is ready; made by `waiting`.

    Attributes:
        output: what the forward gave.
        version: of the tool.
    """

    def __init__(self, process: subprocess.Popen[str], asked: Asked, errors: Path):
        self._process, self._asked, self._errors = process, asked, errors
        self.version = self._line()
        self.output: Tensor = torch.load(asked.output)

    def turn(self) -> float:
        """Seconds of one forward.

        Raises:
            Failed: the process ended.
        """
        try:
            print(file=self._process.stdin, flush=True)
        except BrokenPipeError:  # the line that does not come tells why
            pass
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline().strip():
            return line
        raise Failed(f"{self._asked.tool} failed: {_why(self._process.wait(), self._errors)}")


@contextmanager
def waiting(asked: Asked) -> Iterator[Waiting]:
    """Start it, in the environment of its tool, and end it.

    Raises:
        Failed: it did not get ready.
        NoEnvironment: the tool cannot be installed.
    """
    python = interpreter(asked.tool)
    with tempfile.TemporaryDirectory() as room:
        asked = Asked(**{**asdict(asked), "output": str(Path(room) / "output.pt")})
        errors = Path(room) / "errors"
        with (
            errors.open("w") as complaints,
            subprocess.Popen(
                [str(python), "-m", "peers.waiting_worker", str(asked)],
                cwd=HERE,
                env={**os.environ, "OMP_NUM_THREADS": str(asked.threads)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            ) as process,
        ):
            try:
                yield Waiting(process, asked, errors)
            finally:
                process.kill()


def _why(status: int, errors: Path) -> str:
    """A signal leaves no words of its own: what is told last are only warnings."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (too little memory?)" if name == "SIGKILL" else "")
    return (errors.read_text().strip().splitlines() or [f"exit status {status}"])[-1]

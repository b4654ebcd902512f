"""One measurement in a process of its own: a job's text as the argument, the answer on stdout.

python -m peers.worker '{"model": "sd15", "tool": "deepcache", "settings": {"interval": 3}, ...}'
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from .job import Job, Measured
from .models import asked, build, deepest
from .tools import TOOLS


class Watch:
    """Follows one image: when each step ended, and whether the deepest layer ran in it."""

    def __init__(self, pipe: Any, last: int, kept: Any):
        self.last, self.kept = last, kept
        self.ends: list[float] = []
        self.whole: list[bool] = []
        self.bytes = (0, 0)
        self._ran = False
        deepest(pipe).register_forward_pre_hook(self._deep)
        self.cpu = 0.0
        self._cpu_began = time.process_time()
        self.began = time.perf_counter()

    def step(self, pipe: Any, index: int, *_: Any) -> dict[str, Any]:
        self.ends.append(time.perf_counter())
        self.whole.append(self._ran)
        self._ran = False
        if index == self.last:  # now: some tools drop what they keep when the pipeline returns
            self.cpu = time.process_time() - self._cpu_began
            self.bytes = sizes(self.kept())
        return {}

    def _deep(self, *_: Any) -> None:
        self._ran = True


def measure(job: Job) -> Measured:
    torch.set_num_threads(job.threads)
    pipe = build(job)
    kept = TOOLS[job.tool](pipe, **job.settings)
    if job.timed:
        pipe(**asked(job, pipe), num_inference_steps=1)
    question = asked(job, pipe)
    watch = Watch(pipe, job.steps - 1, kept)
    pipe(**question, num_inference_steps=job.steps, callback_on_step_end=watch.step)
    times = [watch.began, *watch.ends]
    return Measured(
        seconds=times[-1] - times[0],
        cpu=watch.cpu,
        steps=[after - before for before, after in zip(times[:-1], times[1:], strict=True)],
        whole="".join(str(int(ran)) for ran in watch.whole),
        kept=watch.bytes[0],
        kept16=watch.bytes[1],
        versions=versions("torch", "diffusers", job.tool),
    )


def sizes(root: Any) -> tuple[int, int]:
    """Bytes of the memory behind all tensors inside `root`, as it is and at 16 bits a number.

    Memory that several tensors share counts once, and all of it: a view keeps it alive.
    """
    found = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors(root)}
    as_is = [(tensor.untyped_storage().nbytes(), tensor) for tensor in found.values()]
    halved = (
        size * 2 // tensor.itemsize if tensor.is_floating_point() else size
        for size, tensor in as_is
    )
    return sum(size for size, _ in as_is), sum(halved)


def tensors(root: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested mappings, sequences and dataclasses."""
    if isinstance(root, torch.Tensor):
        yield root
    elif isinstance(root, Mapping):
        for value in root.values():
            yield from tensors(value)
    elif isinstance(root, list | tuple):
        for value in root:
            yield from tensors(value)
    elif is_dataclass(root):
        for own in fields(root):
            yield from tensors(getattr(root, own.name))


def versions(*names: str) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # plain and first-block-cache are diffusers itself
            continue
    return found


def main() -> None:
    with redirect_stdout(sys.stderr):  # some tools print
        answer = measure(Job.parse(sys.argv[1]))
    print(answer)


if __name__ == "__main__":
    main()

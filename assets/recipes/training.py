"""A training run: a plan in wall-clock time, averaged weights, checkpoints and a log."""

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .muon import Muon
from .workers import largest_over_workers, sum_over_workers, worker, workers

CHECKPOINT_SECONDS = 300
LOG_STEPS = 50
WARM_UP_STEPS = 30
LAST_SCALE = 0.02


@dataclass(frozen=True)
class TrainingOptions:
    """How a run is to go; `minutes` is wall-clock time, over all resumed parts together.

    `autocast` runs the forward's large products in bfloat16, for processors that have it: 1.5 times
    the steps a minute on AVX512-BF16. Weights, gradients and the loss stay float32.
    """

    out: Path
    minutes: float
    resume: bool = False
    device: str = "cpu"
    threads: int = 1
    max_steps: int | None = None
    autocast: bool = False

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ValueError(f"minutes must be above 0, got {self.minutes}")
        if self.threads < 1:
            raise ValueError(f"threads must be 1 or more, got {self.threads}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be 1 or more, got {self.max_steps}")


def parse_options(
    description: str | None, minutes: float, can_autocast: bool = False
) -> TrainingOptions:
    """Read the options every training recipe shares from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True, help="the folder the model goes to")
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--max-steps", type=int, help="stop after so many steps")
    if can_autocast:
        parser.add_argument("--autocast", action="store_true", help="products in bfloat16")
    return TrainingOptions(**vars(parser.parse_args()))


class Average:
    """Exponential moving average of a module's parameters."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.parameters, self.decay, self.updates = list(module.parameters()), decay, 0
        self.values = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averaged and live parameters; a second call takes it back."""
        for parameter, value in zip(self.parameters, self.values, strict=True):
            live = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(live)


class Run:
    """One training run of `model`: iterate over it for the progress, 0 to 1, of each step."""

    def __init__(
        self,
        name: str,
        options: TrainingOptions,
        model: nn.Module,
        optimizer: Muon,
        average_decay: float,
        decay_from: float = 0.4,
    ) -> None:
        """Learning rates fall linearly from progress `decay_from` on."""
        self.name, self.options, self.model, self.optimizer = name, options, model, optimizer
        self.average = Average(model, average_decay)
        self.decay_from = decay_from
        self.step, self.minutes, self.log = 0, 0.0, []
        self.losses: list[Tensor] = []
        options.out.mkdir(parents=True, exist_ok=True)
        self.checkpoint_path = options.out / f"{name}.checkpoint"
        if options.resume and self.checkpoint_path.exists():
            self.load()
        torch.manual_seed(self.seed)

    @property
    def seed(self) -> int:
        """What this part of the run draws from: another one for each worker and each resumption."""
        return 1000 * self.step + worker()

    @property
    def progress(self) -> float:
        by_steps = self.step / self.options.max_steps if self.options.max_steps else 0.0
        return max(self.minutes / self.options.minutes, by_steps)

    def __iter__(self) -> Iterator[float]:
        start, earlier, saved = time.monotonic(), self.minutes, time.monotonic()
        while self.progress < 1:
            yield self.progress
            self.minutes = largest_over_workers(earlier + (time.monotonic() - start) / 60)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()
        if worker() == 0:
            self.write_log()

    def learn(self, loss: Tensor, shown: Tensor | None = None) -> None:
        """One optimizer step down `loss`; the log gets the mean of `shown`, or else of `loss`."""
        (loss / workers()).backward()
        sum_over_workers([w.grad for w in self.optimizer.weights if w.grad is not None])
        nn.utils.clip_grad_norm_(self.optimizer.adam_weights, 1.0)
        warm = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        rest = (1 - self.progress) / (1 - self.decay_from)
        self.optimizer.step(warm * max(LAST_SCALE, min(1.0, rest)))
        self.average.update()
        self.step += 1
        self.losses.append((loss if shown is None else shown).detach())
        if self.step % LOG_STEPS == 0:
            self.note(loss=round(torch.stack(self.losses).mean().item(), 5))
            self.losses.clear()

    def note(self, **values: object) -> None:
        """Add a line to the log and print it."""
        line = {"step": self.step, "minutes": round(self.minutes, 2), **values}
        self.log.append(line)
        if worker() == 0:
            print(json.dumps(line), flush=True)

    def write_log(self) -> None:
        lines = ",\n".join(json.dumps(line) for line in self.log)
        (self.options.out / f"{self.name}.log.json").write_text(f"[\n{lines}\n]\n")

    def save(self) -> None:
        """Write everything needed to go on; the file changes in one move."""
        if worker() != 0:
            return
        state = {
            "model": self.model.state_dict(),
            "average": self.average.values,
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "minutes": self.minutes,
            "log": self.log,
        }
        partial = self.checkpoint_path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint_path)
        self.write_log()

    def load(self) -> None:
        state = torch.load(self.checkpoint_path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.values = [v.to(self.options.device) for v in state["average"]]
        self.average.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.minutes, self.log = state["step"], state["minutes"], state["log"]

"""Rows, times grid, times wildcards, times seeds: every image of a run, each with its key.

A key is a hash of all that decides the image, so the same image has it wherever its row stands. A
row without a seed gets one made of the run's seed, its prompt, and how many rows like it came
before: the same whatever other rows are there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mindsd.errors import MindsdError, RequestError
from mindsd.pipelines.lora_tags import read_lora_tags
from mindsd.pipelines.parameters import MAX_SEED

from ..options import DRAW_SEED
from ..picture_files import content_hash
from .asking import Asked, Asking
from .grid import Cell
from .identity import digest, key_of, model_identity
from .prompt_file import Row
from .wildcards import Wildcards

MOST = 100_000  # images of a run
MOST_OF_A_ROW = 10_000
SEEDS = 2**32
OPEN = (None, DRAW_SEED)  # what a row says of a seed that is the run's affair


@dataclass(frozen=True)
class Job:
    """One image.

    Attributes:
        number: its place in the run, from 1.
        line: of the prompt file.
        key: what it is known by.
        asked: what to draw, with which model.
        cell: its place in the grid; empty without one.
        family: the same for the cells of one grid.
    """

    number: int
    line: int
    key: str
    asked: Asked
    cell: Cell = ()
    family: str = ""

    @property
    def name(self) -> str:
        """Of its file, as in "0001-a-red-circle-3fa9c1d2b4e5.png"."""
        words = re.sub(r"[^a-z0-9]+", "-", self.asked.parameters.prompt.lower())
        return f"{self.number:04d}-{words[:40].strip('-') or 'image'}-{self.key}.png"


@dataclass(frozen=True)
class Plan:
    """All images of a run, and the rows that are wrong: {line: reason}."""

    jobs: list[Job] = field(default_factory=list)
    wrong: dict[int, str] = field(default_factory=dict)


class Planner:
    """Makes a plan.

    Args:
        precision: as asked; another one makes other images.
        combine: every combination of wildcards, in place of a pick; None leaves braces alone.
        adapters: files of the LoRAs that may be named.
        weighted: as asked.
        vae: what tells the autoencoder in place of a model's own from others; None for its own.
    """

    def __init__(
        self,
        asking: Asking,
        grid: list[Cell],
        wildcards: Wildcards | None,
        combine: bool,
        seed: int,
        precision: str,
        adapters: Mapping[str, Path],
        weighted: bool | None,
        vae: str | None = None,
    ):
        self._adapters, self._weighted, self._vae = adapters, weighted, vae
        self._asking, self._grid, self._seed, self._precision = asking, grid, seed, precision
        self._wildcards, self._combine = wildcards, combine
        self._like: Counter[str] = Counter()  # rows by what they say
        self._same: Counter[str] = Counter()  # images by their keys
        self._pictures: dict[str, str] = {}

    def plan(self, rows: Iterable[Row]) -> Plan:
        """Every image of the rows.

        Raises:
            RequestError: they are over 100000.
        """
        plan = Plan()
        for row in rows:
            try:
                if row.error is not None:
                    raise RequestError(row.error)
                jobs = list(self._jobs(row, len(plan.jobs)))
            except MindsdError as error:
                plan.wrong[row.line] = " ".join(str(error).split())
                continue
            plan.jobs.extend(jobs)
            if len(plan.jobs) > MOST:
                raise RequestError(f"there are over {MOST} images; split the prompt file")
        return plan

    def _jobs(self, row: Row, number: int) -> Iterator[Job]:
        if twice := [name for name, _ in self._grid[0] if name in row.values]:
            raise RequestError(f"the row says {twice[0]}, and so does --grid; one of the two")
        values = self._asking.whole(row.values)
        for prompt, seed in self._prompts(values):
            family = digest({**values, "prompt": prompt}, seed)
            for cell in self._grid:
                asked = self._asking.image({**values, **dict(cell)}, prompt, seed)
                number += 1
                yield Job(number, row.line, self._key(asked), asked, cell, family)

    def _prompts(self, values: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
        """Every prompt and seed of a row."""
        count, template = values.get("n", 1), values["prompt"]
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise RequestError(f"n must be a whole number of at least 1, got {count!r}")
        if self._wildcards is not None and self._combine:
            prompts = self._wildcards.all(template)
        else:
            prompts = [template]
        if max(count * len(prompts), count) * len(self._grid) > MOST_OF_A_ROW:
            raise RequestError(f"the row asks for over {MOST_OF_A_ROW} images; make it fewer")
        said = values.get("seed")
        if said not in OPEN:
            self._check_seed(said, count * len(prompts))
        for place, prompt in enumerate(own for own in prompts for _ in range(count)):
            seed = self._made(values, prompt) if said in OPEN else said + place
            if self._wildcards is not None and not self._combine:
                yield self._wildcards.pick(prompt, seed), seed
            else:
                yield prompt, seed

    def _check_seed(self, seed: Any, count: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise RequestError(f"seed must be a whole number, got {seed!r}")
        if not 0 <= seed <= MAX_SEED - count:
            raise RequestError(f"seed must be 0 to {MAX_SEED}, got {seed}")

    def _made(self, values: Mapping[str, Any], prompt: str) -> int:
        """The seed of a row that says none."""
        like = digest({k: v for k, v in values.items() if k not in ("n", "seed")}, prompt)
        place = self._like[like]
        self._like[like] += 1
        return int(digest(self._seed, prompt, place)[:16], 16) % SEEDS

    def _key(self, asked: Asked) -> str:
        told = asdict(asked.parameters)
        told["acceleration"] = asked.parameters.acceleration.as_json()
        pictures = {name: self._held(path) for name, path in asked.pictures.items()}
        facts = [told, pictures, model_identity(asked.model), self._precision]
        if self._weighted is not None:
            facts.append({"weighted": self._weighted})
        if self._vae is not None:
            facts.append({"vae": self._vae})
        if adapters := self._named(asked):
            facts.append(adapters)
        first = key_of(*facts)
        place = self._same[first]
        self._same[first] += 1
        return first if place == 0 else key_of(*facts, place)

    def _named(self, asked: Asked) -> dict[str, str]:
        """What the files of its LoRAs hold."""
        _, tagged = read_lora_tags(asked.parameters.prompt)
        found = {}
        for name in dict([*asked.parameters.loras, *tagged]):
            if name not in self._adapters:
                known = ", ".join(self._adapters) or "none; --loras names their folder"
                raise RequestError(f"there is no LoRA {name!r}; there are: {known}")
            found[name] = self._held(str(self._adapters[name]))
        return found

    def _held(self, path: str) -> str:
        if path not in self._pictures:
            self._pictures[path] = content_hash(path)
        return self._pictures[path]


def leaves_seed_open(row: Row) -> bool:
    """Whether its seeds, and choices by them, are made of the run's seed."""
    return row.error is None and row.values.get("seed") in OPEN

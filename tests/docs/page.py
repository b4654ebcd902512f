"""A page of docs/: its fenced blocks, tables, links and code spans, as whoever reads it takes them.

    ```sh        commands, run line by line; a line that ends in \\ goes on
    ```python    run, all blocks of a page as one program
    ```text      what the block before printed, line by line; "..." stands for anything
    ```json      what the command before answered; "..." stands for anything
    ```console   for the reader's own machine: not run

A block after a line that ends "`prompts.csv`:" is the file of this name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FENCE = re.compile(r"^```(\w*)$")
FILE = re.compile(r"`([\w./-]+\.\w+)`:$")
LINK = re.compile(r"\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
RUN = ("sh", "python", "text", "json")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: behind the fence.
        text: inside of it.
        line: of the fence, from 1.
        file: that it is the content of; None for none.
    """

    language: str
    text: str
    line: int
    file: str | None = None

    @property
    def commands(self) -> list[str]:
        """Its lines, those that go on joined; comments and empty ones left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@dataclass(frozen=True)
class Page:
    """One page by its path."""

    path: Path

    @cached_property
    def blocks(self) -> list[Block]:
        return list(self._blocks())

    @cached_property
    def prose(self) -> str:
        """All that stands in no block."""
        lines, inside = [], False
        for line in self._lines:
            inside ^= line.startswith("```")
            lines += [] if inside or line.startswith("```") else [line]
        return "\n".join(lines)

    @property
    def links(self) -> list[str]:
        """Where it leads on this disk, without the #fragment."""
        found = (target.partition("#")[0] for target in LINK.findall(self.prose))
        return [target for target in found if target and "://" not in target]

    @property
    def spans(self) -> list[str]:
        """What stands between backquotes."""
        return SPAN.findall(self.prose)

    @property
    def rows(self) -> list[list[str]]:
        """The rows of all tables, cell by cell."""
        lines = [line for line in self.prose.splitlines() if line.startswith("| ")]
        return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]

    @property
    def _lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines()

    def _blocks(self) -> Iterator[Block]:
        said, opened, held = "", None, []
        for number, line in enumerate(self._lines, 1):
            fence = FENCE.match(line)
            if opened is not None and line == "```":
                text = "".join(f"{own}\n" for own in held)
                file = FILE.search(said)
                yield Block(opened[1], text, opened[0], file and file[1])
                opened, held, said = None, [], ""
            elif opened is not None:
                held.append(line)
            elif fence is not None:
                assert fence[1], f"{self.path} line {number}: a block says its language"
                opened = number, fence[1]
            elif line:
                said = line
        assert opened is None, f"{self.path}: a block is not closed"

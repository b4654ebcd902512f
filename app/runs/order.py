"""What one `mindsd batch` asks for, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mindsd.errors import RequestError
from mindsd.pipelines.parameters import MAX_SEED
from mindsd.pipelines.shelf import lora_files
from mindsd.weights.autoencoder import find_autoencoder

from ..device_options import IMAGE_LAYERS, check_words
from .asking import Asking
from .company import TOGETHER
from .grid import Cell
from .identity import folder_identity
from .lock import Shard
from .plan import Plan, Planner
from .prompt_file import Row, read_prompt_file
from .wildcards import Wildcards


@dataclass(frozen=True)
class BatchOrder:
    """A prompt file to a folder.

    Attributes:
        file: of the prompts.
        output: the folder.
        defaults: values of columns, where a row says nothing.
        grid: its cells; one empty cell without a grid.
        wildcards: how choices in braces are made; None leaves them as they are.
        combine: every combination of them.
        seed: of the run; None for the one that it was begun with, else any.
        vae: folder of an autoencoder in place of every model's own.
        loras: folder of the adapters that prompts and rows name.
        weighted: whether prompts have weights, as (word:1.2); None where they look like it.
        force: profiles are used for other models than those they were tuned for.
        limit: most images to draw now; None for all.
        shard: the part to draw.
        together: images begun together.

    Raises:
        RequestError: what is wrong, in one sentence.
    """

    file: Path
    output: Path
    defaults: Mapping[str, Any] = field(default_factory=dict)
    grid: tuple[Cell, ...] = ((),)
    wildcards: Wildcards | None = None
    combine: bool = False
    seed: int | None = None
    vae: Path | None = None
    loras: Path | None = None
    weighted: bool | None = None
    force: bool = False
    limit: int | None = None
    shard: Shard = Shard()
    together: int = TOGETHER
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "auto"
    layers: str = "auto"

    def __post_init__(self) -> None:
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise RequestError(f"--seed must be 0 to {MAX_SEED}, got {self.seed}")
        if (images := self.defaults.get("n", 1)) < 1:
            raise RequestError(f"-n must be at least 1, got {images}")
        if self.limit is not None and self.limit < 1:
            raise RequestError(f"--limit must be at least 1, got {self.limit}")
        if not 1 <= self.together <= 1000:
            raise RequestError(f"--together must be 1 to 1000, got {self.together}")
        if self.loras is not None and not self.loras.is_dir():
            raise RequestError(f"--loras {self.loras} is no folder; name the one of the files")
        check_words(self.device, self.dtype, self.layers, IMAGE_LAYERS)
        if self.vae is not None:
            find_autoencoder(self.vae)  # whether it fits is the affair of each model
        if self.combine and self.wildcards is None:
            raise RequestError("--combinations needs wildcards; leave --no-wildcards out")

    @cached_property
    def rows(self) -> list[Row]:
        """Of the file.

        Raises:
            RequestError: it cannot be read, or its columns are wrong.
        """
        return list(read_prompt_file(self.file))

    @cached_property
    def asking(self) -> Asking:
        """What makes images of the rows.

        Raises:
            RequestError, ModelError: a default for all rows is wrong.
        """
        return Asking(self.defaults, self.file.parent)

    def plan(self, seed: int) -> Plan:
        """Every image of the file, with this seed of the run.

        Raises:
            RequestError, ModelError: the file, or a default for all its rows, is wrong.
        """
        precision = self.dtype if self.layers == "auto" else f"{self.dtype}, {self.layers}"
        how = (list(self.grid), self.wildcards, self.combine, seed, precision)
        adapters = {} if self.loras is None else lora_files(self.loras)
        vae = None if self.vae is None else folder_identity(self.vae)
        return Planner(self.asking, *how, adapters, self.weighted, vae).plan(self.rows)

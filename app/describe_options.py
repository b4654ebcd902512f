"""What a `mindsd describe` asks for, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mindsd.errors import RequestError
from mindsd.sampling.parameters import Sampling

from .device_options import LANGUAGE_LAYERS, check_words
from .picture_files import find_pictures
from .text_options import SEES, check_output, check_sees, check_text


@dataclass(frozen=True)
class DescribeOrder:
    """Pictures, to be described by one model.

    Attributes:
        pictures: files and folders, as given.
        output: the file that captions are added to; None for stdout.
        model: an embedded model's name or a transformers folder, of a model that sees.
        question: asked about each; None for a description.
        sampling: fields of `Sampling` with their values.
        limit: most pictures to describe now; None for all.

    Raises:
        RequestError, ModelError, OutputError: what is wrong, in one sentence.
    """

    pictures: tuple[str, ...]
    output: Path | None = None
    model: str = SEES
    question: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    layers: str = "auto"

    def __post_init__(self) -> None:
        if self.question is not None and not self.question.strip():
            raise RequestError("the question is empty; leave it out for a description")
        check_text("question", self.question or "")
        if self.limit is not None and self.limit < 1:
            raise RequestError(f"--limit must be at least 1, got {self.limit}")
        Sampling.parse(self.sampling)
        check_words(self.device, self.dtype, self.layers, LANGUAGE_LAYERS)
        if self.output is not None:
            check_output(self.output)
        list(self.paths)  # looked for now: what is wrong is said before anything is loaded
        check_sees(self.model)

    @property
    def asked(self) -> dict[str, str]:
        """What beside a picture a caption depends on, as its line says it."""
        told = {} if self.question is None else {"question": self.question}
        return told | ({} if self.model == SEES else {"model": self.model})

    @cached_property
    def paths(self) -> list[str]:
        """Of all its pictures, each once."""
        return find_pictures(self.pictures, self.output)

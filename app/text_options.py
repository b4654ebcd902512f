"""What a `mindsd chat` or `mindsd complete` asks for, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindsd.errors import OutputError, RequestError
from mindsd.sampling.parameters import Sampling
from mindsd.weights.language import find_language_model


@dataclass(frozen=True)
class ChatOrder:
    """A conversation with one model.

    Attributes:
        prompt: the one thing to answer; None for a conversation.
        model: a known name, a transformers folder or a GGUF file.
        system: said before everything, and never forgotten.
        sampling: fields of `Sampling` with their values.

    Raises:
        RequestError, ModelError: what is wrong, in one sentence.
    """

    prompt: str | None = None
    model: str = "smollm2"
    system: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.prompt is not None and not self.prompt.strip():
            raise RequestError('the prompt is empty; say something: mindsd chat "Hello"')
        for name, text in (("prompt", self.prompt), ("system message", self.system)):
            check_text(name, text or "")
        Sampling.parse(self.sampling)
        find_language_model(self.model)

    @property
    def max_tokens(self) -> int:
        """Of one answer."""
        return Sampling.parse(self.sampling).max_tokens


@dataclass(frozen=True)
class BatchOrder:
    """Prompts of a file, to be answered by one model.

    Attributes:
        input: a file with one prompt as JSON on each line.
        output: the file that answers are added to.
        model: a known name, a transformers folder or a GGUF file.
        defaults: what a line may say and does not: fields of `Sampling`, "system", "chat".
        seed: with the number of a line the seed of a line that has none; None for any.

    Raises:
        RequestError, ModelError, OutputError: what is wrong, in one sentence.
    """

    input: Path
    output: Path
    model: str = "smollm2"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if not self.input.is_file():
            found = "is no file" if self.input.exists() else "does not exist"
            raise RequestError(f"--input {self.input} {found}; name a file of JSON lines")
        self._check_output()
        apart = ("system", "chat")
        said = {name: own for name, own in self.defaults.items() if name not in apart}
        Sampling.parse(said | {"seed": self.seed})
        system = self.defaults.get("system")
        if system is not None and self.defaults.get("chat") is False:
            raise RequestError(
                "say --system or --raw, one of the two: a text has no system message"
            )
        check_text("system message", system or "")
        find_language_model(self.model)

    def _check_output(self) -> None:
        if not self.output.parent.is_dir():
            said = f"--output {self.output} is in a folder that does not exist"
            raise OutputError(f"{said}; make {self.output.parent} first")
        if self.output.exists() and not self.output.is_file():
            raise OutputError(f"--output {self.output} is no file; name one")
        if self.output.exists() and self.output.samefile(self.input):
            raise OutputError(f"--output {self.output} is the input; name another file")


def check_text(name: str, text: str) -> None:
    """See that it is text: the bytes of an argument need not be.

    Raises:
        RequestError: it is not.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestError(f"the {name} is not valid UTF-8 text") from None

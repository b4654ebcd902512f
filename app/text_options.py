"""What a `mindsd chat` or `mindsd complete` asks for, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindsd.errors import ModelError, OutputError, RequestError
from mindsd.pipelines.picture import read_picture
from mindsd.sampling.parameters import Sampling
from mindsd.weights.language import find_language_model

from .device_options import LANGUAGE_LAYERS, check_words

if TYPE_CHECKING:
    from PIL import Image

TALKS, SEES = "smollm2", "tiny-vlm"  # the default models of texts, and of pictures


@dataclass(frozen=True)
class ChatOrder:
    """A conversation with one model.

    Attributes:
        prompt: the one thing to answer; None for a conversation.
        model: a known name, a transformers folder or a GGUF file.
        system: said before everything, and never forgotten.
        sampling: fields of `Sampling` with their values.
        images: picture files that are shown with the first message.

    Raises:
        RequestError, ModelError: what is wrong, in one sentence.
    """

    prompt: str | None = None
    model: str = TALKS
    system: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    dtype: str = "auto"
    images: tuple[Path, ...] = ()
    layers: str = "auto"

    def __post_init__(self) -> None:
        if self.prompt is not None and not self.prompt.strip():
            raise RequestError('the prompt is empty; say something: mindsd chat "Hello"')
        for name, text in (("prompt", self.prompt), ("system message", self.system)):
            check_text(name, text or "")
        Sampling.parse(self.sampling)
        check_words(self.device, self.dtype, self.layers, LANGUAGE_LAYERS)
        if self.images:
            check_sees(self.model)
        else:
            find_language_model(self.model)
        list(self.pictures)  # read now: what is wrong is said before anything is loaded

    @cached_property
    def pictures(self) -> list[Image.Image]:
        """What the files hold, read once."""
        return [read_picture(file) for file in self.images]

    @property
    def warmth(self) -> dict[str, float]:
        """How tokens are drawn where neither the order nor the model says anything of it."""
        return {"temperature": 0.0 if self.images else 0.7, "top_p": 0.9}

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
    model: str = TALKS
    defaults: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    layers: str = "auto"

    def __post_init__(self) -> None:
        if not self.input.is_file():
            found = "is no file" if self.input.exists() else "does not exist"
            raise RequestError(f"--input {self.input} {found}; name a file of JSON lines")
        check_output(self.output)
        if self.output.exists() and self.output.samefile(self.input):
            raise OutputError(f"--output {self.output} is the input; name another file")
        apart = ("system", "chat")
        said = {name: own for name, own in self.defaults.items() if name not in apart}
        Sampling.parse(said | {"seed": self.seed})
        system = self.defaults.get("system")
        if system is not None and self.defaults.get("chat") is False:
            raise RequestError(
                "say --system or --raw, one of the two: a text has no system message"
            )
        check_text("system message", system or "")
        check_words(self.device, self.dtype, self.layers, LANGUAGE_LAYERS)
        find_language_model(self.model)


def check_output(output: Path) -> None:
    """See that a file may be there.

    Raises:
        OutputError: it may not.
    """
    if not output.parent.is_dir():
        said = f"--output {output} is in a folder that does not exist"
        raise OutputError(f"{said}; make {output.parent} first")
    if output.exists() and not output.is_file():
        raise OutputError(f"--output {output} is no file; name one")


def check_sees(model: str) -> None:
    """See that a model looks at pictures.

    Raises:
        ModelError: it does not, or is missing, incomplete or not safe to load.
    """
    files = find_language_model(model)
    if not files.sees:
        raise ModelError(
            f"{files.name} reads text alone, it cannot look at pictures; "
            f"take a model that sees: --model {SEES}"
        )


def check_text(name: str, text: str) -> None:
    """See that it is text: the bytes of an argument need not be.

    Raises:
        RequestError: it is not.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestError(f"the {name} is not valid UTF-8 text") from None

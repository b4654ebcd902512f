"""A batch of prompts, each answer written when it is done.

Imports torch and transformers; the commands import this file when they run.
"""

from __future__ import annotations

from typing import Any

from mindsd.errors import RequestError
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.pipelines.text_result import TextResult
from mindsd.request import Request

from .answer_file import AnswerFile
from .answer_json import answer_of
from .prompt_lines import PromptLine
from .text_options import BatchOrder

TEXTS, PICTURES = 256, 64  # in flight; a picture waits as the numbers that its tower takes


def load(order: BatchOrder) -> TextGeneration:
    """The order's model."""
    device, dtype, layers = order.device, order.dtype, order.layers
    return TextGeneration.load(order.model, device=device, dtype=dtype, layers=layers)


class Completing:
    """What a `Batch` does with the lines of a file, on a loaded model."""

    def __init__(self, text: TextGeneration, order: BatchOrder, output: AnswerFile) -> None:
        self._text = text
        self._order = order
        self._output = output

    @property
    def in_flight(self) -> int:
        """Fewer where the model sees."""
        return TEXTS if self._text.model.vision is None else PICTURES

    def submit(self, line: PromptLine) -> Request:
        """Ask for its answer.

        Raises:
            RequestError: what is wrong with the line.
        """
        if line.error is not None:
            raise RequestError(line.error)
        return self._text.submit(line.prompt, **self._options(line))

    def done(self, line: PromptLine, results: list[TextResult]) -> None:
        """Write its answer."""
        self._output.add(dict([line.key]) | answer_of(results, self._text.model.tokenizer))

    def failed(self, line: PromptLine, reason: str) -> None:
        """Write why it has none."""
        self._output.add({**dict([line.key]), "error": reason})

    def _options(self, line: PromptLine) -> dict[str, Any]:
        own = {name: value for name, value in line.options.items() if value is not None}
        if self._order.seed is not None:
            own.setdefault("seed", self._order.seed + line.number)
        defaults = dict(self._order.defaults)
        if not isinstance(line.prompt, str) or own.get("chat") is False:
            defaults.pop("system", None)  # messages have their own, and other texts have none
        return defaults | own

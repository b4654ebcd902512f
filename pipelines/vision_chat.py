"""Questions about pictures: any vision-language model of transformers, many in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mindsd.engine import Engine
from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.language_model import LanguageModel
from mindsd.pipelines.messages import Message
from mindsd.pipelines.picture import Picture
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.pipelines.text_result import TextResult
from mindsd.request import Request

DESCRIBE = "Describe the image."


class VisionChat(TextGeneration):
    """One loaded vision-language model and the engine that runs it.

    It takes all that `TextGeneration` takes, prompts of text alone as well; pictures are parts of a
    message's content.

    Args:
        model: what `load_language` gives; several may share one.
        engine: one that already runs, for several models; whoever made it closes it.

    Raises:
        ModelError: the model reads text alone.
    """

    def __init__(self, model: LanguageModel, engine: Engine | None = None):
        if model.vision is None:
            raise ModelError(f"{model.name} reads text alone; load a model that sees: tiny-vlm")
        super().__init__(model, engine)

    @classmethod
    def load(cls, model: str | Path | Any = "tiny-vlm", *given: Any, **options: Any) -> VisionChat:
        """As `TextGeneration.load`: "tiny-vlm", a transformers folder, or a model in memory with
        its tokenizer and `processor`."""
        return super().load(model, *given, **options)

    def ask(
        self,
        pictures: Picture | Sequence[Picture],
        question: str = DESCRIBE,
        *,
        history: Sequence[Message] = (),
        **options: Any,
    ) -> TextResult:
        """The answer to one question.

        Args:
            pictures: what it is about: PIL images, paths or the contents of files; several are
                shown one after the other.
            question: asked after them.
            history: what was said before, as messages.
            options: as of `submit`. Without a temperature the likeliest words are taken.

        Raises:
            RequestError: a picture cannot be read, or what is wrong, in one sentence.
        """
        _check_one(options)
        return self([*history, shown(pictures, question)], **{"temperature": 0, **options})

    def tell(
        self,
        pictures: Picture | Sequence[Picture],
        question: str = DESCRIBE,
        *,
        history: Sequence[Message] = (),
        **options: Any,
    ) -> Iterator[str]:
        """As `ask`, piece by piece as it is drawn; whoever stops listening cancels it."""
        asked = [*history, shown(pictures, question)]
        return self.stream(asked, **{"temperature": 0, **options})

    def describe(
        self, pictures: Picture | Sequence[Picture], question: str = DESCRIBE, **options: Any
    ) -> list[TextResult]:
        """The answer about each of several pictures, computed together."""
        _check_one(options)
        requests: list[Request] = []
        try:
            for picture in [pictures] if isinstance(pictures, Picture) else pictures:
                asked = [shown(picture, question)]
                requests.append(self.submit(asked, **{"temperature": 0, **options}))
            return [request.result()[0] for request in requests]
        finally:
            for request in requests:
                if not request.ended:
                    request.cancel()


def _check_one(options: Mapping[str, Any]) -> None:
    if options.get("n", 1) != 1:
        raise RequestError("one answer is given to a question; ask again for another, with a seed")


def shown(pictures: Picture | Sequence[Picture], question: str) -> Message:
    """A user's message that shows pictures and asks something.

    Raises:
        RequestError: there is no picture, or nothing is asked.
    """
    if not isinstance(pictures, Picture | Sequence):
        raise RequestError(f"pictures are PIL images, paths or bytes, got {pictures!r}")
    given = [pictures] if isinstance(pictures, Picture) else list(pictures)
    if not given:
        raise RequestError("there is no picture to look at; give at least one")
    if not isinstance(question, str) or not question.strip():
        raise RequestError(f"a question is a text that is not empty, got {question!r}")
    parts = [{"type": "image", "image": picture} for picture in given]
    return {"role": "user", "content": [*parts, {"type": "text", "text": question}]}

"""One call for texts, by a chat or a completion: what it asks of the engine, what it tells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import mindsd
from mindsd.pipelines.resident import Resident
from mindsd.pipelines.text_result import TextResult
from mindsd.request import Event, Request

from .job import Job
from .text_body import TextBody
from .text_logprobs import TokenTexts

FINGERPRINT = f"mindsd-{mindsd.__version__}"

Results = Sequence[Sequence[TextResult]]  # of each request, of each sample


class TextTask(ABC):
    """Belongs to one call.

    Attributes:
        kind: of its job.
        body: what was asked.
        texts: the model's tokens; known once it is submitted.
        readers: the pool that pictures which were sent are read on; None where none were.
        stopped: nobody waits for its pictures any more.
    """

    kind: str
    prefix: str  # of the answer's id
    form: str  # the answer's `object`
    piece: str  # the same of a stream's pieces
    readers: Executor | None = None

    def __init__(self, body: TextBody) -> None:
        self.body = body
        self.stopped = False
        self._texts: TokenTexts | None = None

    @property
    def texts(self) -> TokenTexts:
        assert self._texts is not None
        return self._texts

    @property
    def number(self) -> int:
        """How many answers are asked for."""
        return self.body.n or 1

    def stop(self) -> None:
        """Fetch no further picture."""
        self.stopped = True

    @abstractmethod
    def decode(self) -> None:
        """Read the pictures that were sent; on a thread.

        Raises:
            Refusal: one is none that is taken.
        """

    def submit(self, resident: Resident) -> Iterator[Request]:
        """Ask the engine; on a thread."""
        text = resident.text
        self._texts = TokenTexts(text.model.tokenizer)
        yield from self._requests(resident)

    @abstractmethod
    def _requests(self, resident: Resident) -> Iterator[Request]: ...

    @abstractmethod
    def choices(self, results: Results) -> list[dict[str, Any]]:
        """The answers, whole."""

    @abstractmethod
    def begin(self) -> list[dict[str, Any]]:
        """What a stream begins with: choices of its first piece."""

    @abstractmethod
    def tell(self, place: int, event: Event) -> list[dict[str, Any]]:
        """What a stream tells of an event: a choice of each of its pieces."""

    def told(self, job: Job, form: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """A body, or a piece of a stream, with these choices."""
        return {
            "id": f"{self.prefix}{job.id}",
            "object": form,
            "created": int(job.created),
            "model": job.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }


def usage(results: Results) -> dict[str, Any]:
    """Tokens of all prompts, each counted once, and of all answers."""
    prompt = sum(own[0].usage.prompt for own in results)
    cached = sum(own[0].usage.cached for own in results)
    drawn = sum(one.usage.completion for own in results for one in own)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": drawn,
        "total_tokens": prompt + drawn,
        "prompt_tokens_details": {"cached_tokens": cached},
    }

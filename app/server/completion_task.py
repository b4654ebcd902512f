"""One call for completions: from its prompts to requests of the engine, and from texts to JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mindsd.pipelines.resident import Resident
from mindsd.pipelines.text_result import TextResult, TokenLogprob
from mindsd.request import Done, Event, Piece, Request

from .completion_body import CompletionBody
from .refusal import about
from .text_body import UNLESS_SAID
from .text_task import Results, TextTask


class CompletionTask(TextTask):
    """Belongs to one call."""

    kind, prefix = "completion", "cmpl-"
    form = piece = "text_completion"
    body: CompletionBody

    def __init__(self, body: CompletionBody) -> None:
        super().__init__(body)
        self._echoes: list[str] = []
        self._told: dict[int, int] = {}  # characters of each answer so far
        self._waiting: dict[int, list[TokenLogprob]] = {}

    @property
    def number(self) -> int:
        return len(self.body.prompts) * self._samples

    def decode(self) -> None:
        """There are none."""

    @property
    def _samples(self) -> int:
        return self.body.n or 1

    def _requests(self, resident: Resident) -> Iterator[Request]:
        text, options = resident.text, self.body.options()
        if self.body.logprobs is not None:
            options["logprobs"] = self.body.logprobs
        for prompt in self.body.prompts:
            own = text.submit(prompt, chat=False, unless_said=UNLESS_SAID, **options)
            self._echoes.append(self._echo(prompt, text.model.tokenizer))
            yield own

    def _echo(self, prompt: str | list[int], tokenizer: Any) -> str:
        if not self.body.echo:
            return ""
        with about("prompt"):
            return prompt if isinstance(prompt, str) else tokenizer.decode(prompt)

    def choices(self, results: Results) -> list[dict[str, Any]]:
        return [
            self._choice(place, one.sample, self._echoes[place] + one.text, one.logprobs, one)
            for place, own in enumerate(results)
            for one in own
        ]

    def begin(self) -> list[dict[str, Any]]:
        return [
            self._choice(place, sample, echo, None)
            for place, echo in enumerate(self._echoes)
            for sample in range(self._samples)
            if echo
        ]

    def tell(self, place: int, event: Event) -> list[dict[str, Any]]:
        if isinstance(event, Piece):
            waiting = self._waiting.setdefault(self._index(place, event.sample), [])
            waiting += event.logprobs or ()
            if not event.text:
                return []
            return [self._choice(place, event.sample, event.text, self._taken(place, event.sample))]
        if isinstance(event, Done):
            ends = [(one, self._taken(place, one.sample)) for one in event.result]
            return [self._choice(place, one.sample, "", own, one) for one, own in ends]
        return []

    def _taken(self, place: int, sample: int) -> list[TokenLogprob] | None:
        """Those of the tokens since the last piece."""
        if self.body.logprobs is None:
            return None
        return self._waiting.pop(self._index(place, sample), [])

    def _index(self, place: int, sample: int) -> int:
        return place * self._samples + sample

    def _choice(
        self,
        place: int,
        sample: int,
        text: str,
        logprobs: Any,
        end: TextResult | None = None,
    ) -> dict[str, Any]:
        index, told = self._index(place, sample), None
        if logprobs is not None:
            told = self.texts.completion(logprobs, self._told.get(index, 0))
            self._told[index] = self._told.get(index, 0) + len(text)
        reason = None if end is None else end.finish_reason
        return {"index": index, "text": text, "logprobs": told, "finish_reason": reason}

"""A batch of prompts through the engine: many in flight, each answer written when it is done.

Imports torch and transformers; the commands import this file when they run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from queue import SimpleQueue
from typing import Any

from mindsd.errors import Cancelled, EngineClosed, MindsdError
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.pipelines.text_result import TextResult
from mindsd.request import Done, Event, Failed, Notice, Piece, Request

from .answer_file import AnswerFile
from .batch_progress import BatchLines, BatchTally
from .interrupt import Interrupt
from .prompt_lines import PromptLine
from .text_options import BatchOrder

IN_FLIGHT = 256  # more than any batch takes, few enough to hold in memory


def load(order: BatchOrder) -> TextGeneration:
    """The order's model."""
    return TextGeneration.load(order.model, device=order.device, dtype=order.dtype)


class Completing:
    """One batch on a loaded model.

    Args:
        tally: kept up to date while it runs.
    """

    def __init__(
        self,
        text: TextGeneration,
        order: BatchOrder,
        output: AnswerFile,
        tally: BatchTally,
        progress: BatchLines,
    ) -> None:
        self._text = text
        self._order = order
        self._output = output
        self._tally = tally
        self._progress = progress
        self._told: SimpleQueue[tuple[Request, Event]] = SimpleQueue()
        self._live: dict[Request, PromptLine] = {}
        self._noted: set[str] = set()

    def run(self, lines: Iterable[PromptLine], interrupt: Interrupt) -> None:
        """Answer all; a signal cancels what is not finished yet.

        Raises:
            OutputError: the disk is full.
            EngineClosed: the engine broke.
        """

        def stop() -> None:
            self._tally.stopping = True
            for request in list(self._live):
                request.cancel()

        interrupt.on_signal = stop
        self._tally.begun = time.perf_counter()
        for line in lines:
            while len(self._live) >= IN_FLIGHT:
                self._take(*self._told.get())
            if self._tally.stopping:
                break
            self._submit(line)
        if self._tally.stopping:  # the signal may have come before the last one was noted
            stop()
        while self._live:
            self._take(*self._told.get())

    def _submit(self, line: PromptLine) -> None:
        if line.error is not None:
            self._failed(line, line.error)
            return
        try:
            request = self._text.submit(line.prompt, **self._options(line))
        except EngineClosed:
            raise
        except Exception as error:  # of a line, whatever it is, the others know nothing
            self._failed(line, one_line(error))
            return
        self._live[request] = line
        request.redirect(lambda event: self._told.put((request, event)))

    def _options(self, line: PromptLine) -> dict[str, Any]:
        own = {name: value for name, value in line.options.items() if value is not None}
        if self._order.seed is not None:
            own.setdefault("seed", self._order.seed + line.number)
        defaults = dict(self._order.defaults)
        if not isinstance(line.prompt, str) or own.get("chat") is False:
            defaults.pop("system", None)  # messages have their own, and other texts have none
        return defaults | own

    def _take(self, request: Request, event: Event) -> None:
        if isinstance(event, Piece):
            self._tally.tokens += len(event.tokens)
        elif isinstance(event, Notice) and event.text not in self._noted:
            self._noted.add(event.text)
            self._progress.said(f"note: {event.text}")
        elif isinstance(event, Done):
            self._done(self._live.pop(request), event.result)
        elif isinstance(event, Failed):
            line = self._live.pop(request)
            if not isinstance(event.error, Cancelled):
                self._failed(line, one_line(event.error))
        self._progress.doing(self._tally)

    def _done(self, line: PromptLine, results: list[TextResult]) -> None:
        self._output.add(dict([line.key]) | answer_of(results, self._text.model.tokenizer))
        self._tally.done += 1

    def _failed(self, line: PromptLine, reason: str) -> None:
        self._output.add({**dict([line.key]), "error": reason})
        self._tally.failed += 1


def answer_of(results: list[TextResult], tokenizer: Any) -> dict[str, Any]:
    """The answers to one prompt as JSON: "text", or "choices" where there are several."""
    choices = [_choice(result, tokenizer) for result in results]
    prompt = results[0].usage.prompt
    drawn = sum(result.usage.completion for result in results)
    usage = {"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn}
    own = choices[0] if len(choices) == 1 else {"choices": choices}
    logprobs = {"logprobs": own.pop("logprobs")} if "logprobs" in own else {}
    return {**own, "usage": usage, **logprobs}


def one_line(error: BaseException) -> str:
    """An error as one line for people."""
    words = " ".join(str(error).split())
    return words if isinstance(error, MindsdError) else f"{type(error).__name__}: {words}"


def _choice(result: TextResult, tokenizer: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"text": result.text, "finish_reason": result.finish_reason}
    if result.logprobs is None:
        return own

    def told(token: int, logprob: float) -> dict[str, Any]:
        return {"id": token, "token": tokenizer.decode([token]), "logprob": logprob}

    own["logprobs"] = [
        told(one.token, one.logprob) | {"top": [told(*pair) for pair in one.top]}
        for one in result.logprobs
    ]
    return own

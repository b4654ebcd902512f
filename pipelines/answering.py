"""The body of a text request: straight-line code for one prompt, run for many by the engine."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Any

from mindsd.batching.coroutine import ask
from mindsd.batching.placeholders import Placeholders
from mindsd.batching.runner import Ask, TokenRunner
from mindsd.batching.sequence import Sequence
from mindsd.kvcache.prefix import root
from mindsd.kvcache.table import BlockTable
from mindsd.pipelines.reasoning import split_reasoning
from mindsd.pipelines.text_result import TextResult, TokenLogprob, Usage
from mindsd.pipelines.tools import Tool, tool_calls
from mindsd.request import Piece, Request
from mindsd.sampling.draw import Drawn
from mindsd.sampling.drawing import Drawing
from mindsd.sampling.grammar import Grammar
from mindsd.sampling.parameters import Sampling
from mindsd.sampling.text import TextStream

SEED_STEP = 0x9E3779B97F4A7C15  # between the seeds of one request's samples


@dataclass(frozen=True, eq=False)
class Task:
    """What one text request asks.

    Attributes:
        prompt: its tokens.
        sampling: how answers are drawn; `max_tokens` fits into the model's room.
        ends: tokens that end a text by the model's own word.
        tokenizer: of the `tokenizers` library.
        grammar: what an answer may be; each sample has a copy.
        adapter: the LoRA adapter it runs with.
        salt: requests of other salts share no cache with it.
        priority: higher goes first.
        chat, thinks: as of `Tokens`.
        tools: that an answer may call.
        look: sees the prompt's images, once the request runs; None for a text.
        own_inputs: what the model's own `generate` takes of the prompt, where it has images.
    """

    prompt: list[int]
    sampling: Sampling
    ends: tuple[int, ...]
    tokenizer: Any
    grammar: Grammar | None = None
    adapter: str | None = None
    salt: str = ""
    priority: int = 0
    chat: bool = False
    thinks: bool = False
    tools: tuple[Tool, ...] = ()
    look: Callable[[], Placeholders] | None = None
    own_inputs: Callable[[], dict[str, Any]] | None = None

    @property
    def seed(self) -> int:
        """The one asked for, else one by chance."""
        chosen = self.sampling.seed
        return secrets.randbits(63) if chosen is None else chosen


def answer(request: Request, runner: TokenRunner, task: Task) -> list[TextResult]:
    """All samples of one prompt, told piece by piece while they are drawn."""
    held: list[Sequence] = []
    try:
        answers = _begin(runner, task, held)
        while going := tuple(own.sequence for own in answers if own.reason is None):
            for sequence, drawn in ask(Ask(runner, going)):
                own = next(one for one in answers if one.sequence is sequence)
                own.take(request, drawn)
        return [own.result() for own in answers]
    finally:
        for sequence in held:
            sequence.release()


def _begin(runner: TokenRunner, task: Task, held: list[Sequence]) -> list[Answer]:
    """A sequence for each sample; several share the blocks of the prompt.

    Args:
        held: takes up every sequence as it is made, for whoever must release them.
    """
    number, seed = task.sampling.n, task.seed
    table = BlockTable(runner.lanes, root(f"{task.salt}\0{task.adapter or ''}"))
    first = Sequence(
        list(task.prompt),
        len(task.prompt),
        table,
        adapter=task.adapter,
        images=None if task.look is None else task.look(),
        priority=task.priority,
    )
    held.append(first)
    if number > 1:  # without anything that draws, it stops before the last token of the prompt
        ask(Ask(runner, (first,)))
    answers = []
    for sample in range(number):
        sequence = first if sample == number - 1 else _twin(first)
        if sequence is not first:
            held.append(sequence)
        grammar = None if task.grammar is None else task.grammar.copy()
        sequence.draws = Drawing(
            task.sampling, seed + sample * SEED_STEP, len(task.prompt), task.ends, grammar
        )
        answers.append(Answer(task, sequence, sample))
    return answers


def _twin(first: Sequence) -> Sequence:
    return Sequence(
        list(first.tokens),
        first.prompt,
        first.table.fork(),
        adapter=first.adapter,
        images=first.images,
        priority=first.priority,
        computed=first.computed,
        reused=first.reused,
    )


@dataclass(eq=False)
class Answer:
    """One sample while it is drawn.

    Attributes:
        reason: why it ended; None while it goes on.
    """

    task: Task
    sequence: Sequence
    sample: int
    reason: str | None = None
    stopped_by: str | int | None = None
    _drawn: list[Drawn] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stream = TextStream(self.task.tokenizer, self.task.sampling.stop)

    def take(self, request: Request, drawn: Many[Drawn]) -> None:
        """These tokens came, until one of them ends it."""
        shown, tokens = "", []
        for one in drawn:
            self._drawn.append(one)
            tokens.append(one.token)
            shown += self._next(one.token)
            if self.reason is not None:
                break
        if self.reason is None and self.sequence.draws.finished:
            self.reason = "stop"
        if self.reason is not None:
            shown += self._stream.finish()
            self.sequence.release()  # at once: others wait for the room
        if tokens:
            told = self._logprobs(self._drawn[-len(tokens) :])
            request.emit(Piece(self.sample, shown, tuple(tokens), told, self.task.thinks))

    def _next(self, token: int) -> str:
        sampling = self.task.sampling
        if token in self.task.ends and not sampling.ignore_eos:
            self.reason = "stop"
            return ""
        if token in sampling.stop_token_ids:
            self.reason, self.stopped_by = "stop", token
            return ""
        shown = self._stream.push([token])
        if self._stream.stopped is not None:
            self.reason, self.stopped_by = "stop", self._stream.stopped
        elif len(self._drawn) >= sampling.max_tokens:
            self.reason = "length"
        return shown

    def result(self) -> TextResult:
        assert self.reason is not None
        reasoning, text, calls = None, self._stream.text, []
        if self.task.chat:
            reasoning, text = split_reasoning(text, self.task.thinks)
        if self.task.tools:
            salt = f"{self.sequence.number}"
            text, calls = tool_calls(text, self.task.tools, salt)
        return TextResult(
            text,
            tuple(own.token for own in self._drawn),
            "tool_calls" if calls and self.reason == "stop" else self.reason,
            Usage(len(self.task.prompt), len(self._drawn), self.sequence.reused),
            self._logprobs(self._drawn),
            self.sample,
            self.stopped_by,
            reasoning,
            tuple(calls),
        )

    def _logprobs(self, drawn: Many[Drawn]) -> tuple[TokenLogprob, ...] | None:
        if self.task.sampling.logprobs is None:
            return None
        return tuple(TokenLogprob(own.token, own.logprob or 0.0, own.top) for own in drawn)

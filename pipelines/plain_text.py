"""Text of models that cannot run packed: transformers' own `generate`, one request at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
)
from transformers.generation.stopping_criteria import StoppingCriteriaList

from mindsd.batching.sequence import Sequence as Tokens
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.prefix import root
from mindsd.kvcache.table import BlockTable, Lane
from mindsd.pipelines.answering import SEED_STEP, Answer, Task
from mindsd.pipelines.text_result import TextResult
from mindsd.request import Notice, Request
from mindsd.sampling.draw import Drawn, draw
from mindsd.sampling.drawing import Drawing


def answer_plainly(request: Request, model: Any, task: Task) -> list[TextResult]:
    """All samples, one after the other; drawn by our sampler, so that seeds mean the same."""
    request.emit(Notice(f"{model.name} runs one request at a time: {model.why_plain}"))
    inputs = _inputs(model.model, task)
    task = replace(task, prompt=inputs["input_ids"][0].tolist())  # some processors add tokens
    seed = task.seed
    results = []
    for sample in range(task.sampling.n):
        grammar = None if task.grammar is None else task.grammar.copy()
        draws = Drawing(
            task.sampling, seed + sample * SEED_STEP, len(task.prompt), task.ends, grammar
        )
        table = BlockTable([Lane(BlockPool(1, 1))], root())  # it takes no block of it
        own = Answer(task, Tokens(list(task.prompt), len(task.prompt), table, draws), sample)
        _generate(request, model, own, inputs, draws)
        results.append(own.result())
    return results


def _inputs(model: Any, task: Task) -> dict[str, Any]:
    """What `generate` takes of the prompt."""
    if task.own_inputs is not None:
        return task.own_inputs()
    ids = torch.tensor([task.prompt], device=model.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _generate(
    request: Request, loaded: Any, own: Answer, inputs: dict[str, Any], draws: Drawing
) -> None:
    model, vision, follow = loaded.model, loaded.vision, _Follow(request, own, draws)
    # None of the model's own wishes: how tokens are drawn is the request's.
    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=own.task.sampling.max_tokens,
        pad_token_id=0,
        suppress_tokens=None if vision is None else [vision.token_id],  # it cannot be said
    )
    before, model.generation_config = model.generation_config, greedy
    try:
        model.generate(
            **inputs,
            generation_config=greedy,
            logits_processor=LogitsProcessorList([follow]),
            stopping_criteria=StoppingCriteriaList([_Ended(request, own)]),
        )
    finally:
        model.generation_config = before
    failed = follow.error
    if failed is not None:
        raise failed


class _Follow(LogitsProcessor):
    """Draws from the logits of every step and leaves only what was drawn to be chosen."""

    def __init__(self, request: Request, own: Answer, draws: Drawing):
        self.error: Exception | None = None
        self._request, self._own, self._draws = request, own, draws
        self._tokens = list(own.task.prompt)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        if self._own.reason is not None or self.error is not None:
            return scores
        [drawn] = draw(scores, self._draws.rows(self._tokens, []))
        if drawn.error is not None:
            self.error, self._own.reason = drawn.error, "error"
            return scores
        self._take([drawn])
        chosen = torch.full_like(scores, float("-inf"))
        chosen[:, drawn.token] = 0
        return chosen

    def _take(self, drawn: Sequence[Drawn]) -> None:
        self._tokens += [one.token for one in drawn]
        self._draws.took([one.token for one in drawn])
        self._own.take(self._request, drawn)


class _Ended(StoppingCriteria):
    def __init__(self, request: Request, own: Answer):
        self._request, self._own = request, own

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        self._request.stop_if_cancelled()
        ended = self._own.reason is not None
        return torch.full((input_ids.shape[0],), ended, device=input_ids.device)

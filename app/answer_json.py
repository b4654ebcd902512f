"""The answers to one prompt as JSON."""

from __future__ import annotations

from typing import Any

from mindsd.pipelines.text_result import TextResult


def answer_of(results: list[TextResult], tokenizer: Any) -> dict[str, Any]:
    """The answers to one prompt as JSON: "text", or "choices" where there are several."""
    choices = [_choice(result, tokenizer) for result in results]
    prompt = results[0].usage.prompt
    drawn = sum(result.usage.completion for result in results)
    usage = {"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn}
    own = choices[0] if len(choices) == 1 else {"choices": choices}
    logprobs = {"logprobs": own.pop("logprobs")} if "logprobs" in own else {}
    return {**own, "usage": usage, **logprobs}


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

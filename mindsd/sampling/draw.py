"""From the logits of many rows to one token for each, every row by its own parameters.

    logits in float32 -> bias -> penalties -> mask, forbidden -> temperature -> top_k -> top_p
    -> min_p -> softmax -> the token at which the cumulative probability passes one uniform number

Bias and penalties come first and temperature before the cuts, as in vLLM and transformers. top_k,
top_p, min_p is transformers' order; vLLM cuts by min_p first, which differs only where a row has
top_p too. The uniform number is a hash of the row's seed and of how many tokens stand before, so a
token depends neither on the rows beside it nor on how many there are, and whoever verifies a
speculative draft draws the same number again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from mindsd.errors import BrokenLogits, MindsdError, RequestError
from mindsd.sampling.candidates import Limits, draw_among
from mindsd.sampling.logprobs import told
from mindsd.sampling.parameters import Sampling
from mindsd.sampling.penalties import penalise, penalised
from mindsd.sampling.uniform import uniform

COLDEST = 1e-30  # a smaller temperature is zero in float32
BLOCK = 256  # tokens whose probabilities are summed together on the way to one of them


@dataclass
class Row:
    """What stands before the token to draw.

    Attributes:
        sampling: the request's parameters.
        seed: the one to use, also where the request left it open.
        tokens: all tokens before this one, prompt and output.
        prompt: how many of them are prompt.
        mask: bool [V], true where a token is allowed; None allows all.
        forbidden: tokens that must not come now, as the end of sequence before `min_tokens`.
    """

    sampling: Sampling
    seed: int
    tokens: Sequence[int]
    prompt: int
    mask: torch.Tensor | None = None
    forbidden: tuple[int, ...] = ()


@dataclass(frozen=True)
class Drawn:
    """A row's token, or the error that kept it from one (then the token is -1).

    Attributes:
        logprob: the token's log-probability, if the request asked for logprobs (see `told`).
        top: the likeliest tokens with theirs, as many as it asked for.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    error: Exception | None = None


def draw(logits: torch.Tensor, rows: Sequence[Row]) -> list[Drawn]:
    """One token for each row.

    Temperature 0 takes the likeliest token, the lowest of equal ones. A row that cannot be drawn
    carries its error: BrokenLogits where logits are not finite from above or nothing possible is
    allowed, RequestError where the row does not fit the vocabulary. The others go on.

    Args:
        logits: [R, V], any floating dtype; not changed.
        rows: R rows.
    """
    if logits.ndim != 2 or len(logits) != len(rows):
        raise ValueError(f"{len(rows)} rows need logits [R, V], got {list(logits.shape)}")
    raw = logits.detach().float()
    errors = {at: error for at, row in enumerate(rows) if (error := _misfit(row, raw.shape[1]))}
    scores = _limited(raw, rows, errors)
    highest, best = scores.max(dim=-1)
    broken = highest if scores is raw else raw.amax(dim=-1)
    errors = _broken(broken.tolist(), highest.tolist()) | errors
    tokens: list[int] = best.tolist()
    warm = [at for at, row in enumerate(rows) if row.sampling.temperature and at not in errors]
    if warm:
        index = torch.tensor(warm, device=raw.device)
        own = scores.index_select(0, index) - highest.index_select(0, index)[:, None]
        for at, token in zip(warm, _sample(own, [rows[at] for at in warm]), strict=True):
            tokens[at] = token
    counts = [None if at in errors else row.sampling.logprobs for at, row in enumerate(rows)]
    answers = zip(tokens, told(raw, tokens, counts), strict=True)
    return [
        Drawn(-1, error=errors[at]) if at in errors else Drawn(token, *answer)
        for at, (token, answer) in enumerate(answers)
    ]


def _misfit(row: Row, vocabulary: int) -> MindsdError | None:
    """Why the row cannot be drawn from so many tokens."""
    beyond = max(dict(row.sampling.logit_bias), default=-1)
    if beyond >= vocabulary:
        return RequestError(f"logit_bias names token {beyond}; the model has {vocabulary} tokens")
    mask = row.mask
    if mask is not None and (mask.dtype != torch.bool or mask.shape != (vocabulary,)):
        return RequestError(f"a mask is bool [{vocabulary}], got {mask.dtype} {list(mask.shape)}")
    return None


def _broken(raw: Sequence[float], limited: Sequence[float]) -> dict[int, MindsdError]:
    """The errors of the rows, by the highest logit as the model made it and of those allowed."""
    errors: dict[int, MindsdError] = {}
    for at, (model, allowed) in enumerate(zip(raw, limited, strict=True)):
        if not math.isfinite(model):
            errors[at] = BrokenLogits(f"the model's highest logit is {model}")
        elif allowed == -math.inf:
            said = "what the answer must be and what it may not hold leave no token; ask for less"
            errors[at] = RequestError(said)
        elif not math.isfinite(allowed):
            errors[at] = RequestError(f"the penalties make the highest logit {allowed}; lower them")
    return errors


def _limited(
    raw: torch.Tensor, rows: Sequence[Row], errors: dict[int, MindsdError]
) -> torch.Tensor:
    """The logits after bias, penalties, mask and forbidden; `raw` itself if no row has any."""
    changed = [
        at
        for at, row in enumerate(rows)
        if at not in errors and (row.mask is not None or row.forbidden or penalised(row.sampling))
    ]
    if not changed:
        return raw
    index = torch.tensor(changed, device=raw.device)
    own = raw.index_select(0, index)
    penalise(own, [rows[at] for at in changed])
    _forbid(own, [rows[at] for at in changed])
    return raw.index_copy(0, index, own)


def _forbid(scores: torch.Tensor, rows: Sequence[Row]) -> None:
    """Make what the rows must not say impossible, in place."""
    masks = {at: row.mask for at, row in enumerate(rows) if row.mask is not None}
    if masks:
        index = torch.tensor(list(masks), device=scores.device)
        allowed = torch.stack(list(masks.values())).to(scores.device)
        own = scores.index_select(0, index).masked_fill_(~allowed, -math.inf)
        scores.index_copy_(0, index, own)
    vocabulary = scores.shape[-1]
    places = [
        at * vocabulary + token
        for at, row in enumerate(rows)
        for token in row.forbidden
        if 0 <= token < vocabulary
    ]
    if places:
        scores.view(-1).index_fill_(0, torch.tensor(places, device=scores.device), -math.inf)


def _sample(scores: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """One token for each row with a temperature; the highest score of each is 0."""
    if scores.device.type == "npu":  # no float64 there, and float32 would draw other tokens
        scores = scores.cpu()
    device, vocabulary = scores.device, scores.shape[-1]
    coldness = torch.tensor([max(row.sampling.temperature, COLDEST) for row in rows], device=device)
    scores = scores.div_(coldness[:, None])  # with the highest at 0 it cannot overflow to +inf
    probs = scores.softmax(dim=-1)
    numbers = [uniform(row.seed, len(row.tokens)) for row in rows]
    share = torch.tensor(numbers, dtype=torch.float64, device=device)
    asked = [(row.sampling.top_k, row.sampling.top_p, row.sampling.min_p) for row in rows]
    cut = [0 < k < vocabulary or p < 1 or m > 0 for k, p, m in asked]
    tokens = torch.empty(len(rows), dtype=torch.int64, device=device)
    if any(cut):
        own = torch.tensor([at for at, c in enumerate(cut) if c], device=device)
        limits = Limits.of([asked[at] for at in own.tolist()], share[own], vocabulary)
        tokens[own] = draw_among(scores[own], probs[own], limits)
    if not all(cut):
        own = torch.tensor([at for at, c in enumerate(cut) if not c], device=device)
        tokens[own] = _draw_any(probs[own], share[own])
    return tokens.tolist()


def _draw_any(probs: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """[R] tokens at which the sum over the vocabulary [R, V], in its order, passes each share.

    Sums of blocks find the block and a sum within it the token: a running sum over the whole
    vocabulary costs fifteen times as much.
    """
    vocabulary = probs.shape[-1]
    blocks = functional.pad(probs, (0, -vocabulary % BLOCK)).view(len(probs), -1, BLOCK)
    ends = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    target = share[:, None] * ends[:, -1:]
    block = torch.searchsorted(ends, target, right=True).clamp_(max=ends.shape[-1] - 1)
    before = functional.pad(ends, (1, 0)).gather(-1, block)
    inside = blocks.gather(1, block[..., None].expand(-1, 1, BLOCK))[:, 0]
    place = torch.searchsorted(inside.cumsum(-1, dtype=torch.float64), target - before, right=True)
    token = (block * BLOCK + place).clamp_(max=vocabulary - 1)
    possible = probs.gather(-1, token) > 0  # the two sums of a block differ by their rounding
    return torch.where(possible, token, probs.argmax(-1, keepdim=True))[:, 0]

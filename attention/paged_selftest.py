"""Does a backend for pages compute what it claims to, here? A step of its own against torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import Pages, PageStore
from mindsd.kvcache.step import Segment, Step
from mindsd.kvcache.table import Lane

from .contract import Call
from .cpu import Reference
from .paged_call import PagedCall, Sight
from .selftest import HALF_TOLERANCE

WINDOW = 40
# (tokens, tokens before them): a token in its first block, one past it, a draft, a prompt's chunk
SHAPES = ((1, 9), (1, 150), (4, 126), (20, 100))
STEPS = (SHAPES[:2], SHAPES)
Attend = Callable[[PagedCall], Tensor]


def self_test_pages(asked: PagedCall, attend: Attend) -> str | None:
    """What is wrong with `attend` for pages, heads and dtype like those of a call, or None."""
    for shapes in STEPS:
        try:
            call, k, v = _made(asked, shapes)
            got = attend(call)
        except Exception as error:  # whatever a foreign kernel raises: it cannot be used here
            return f"pages: {type(error).__name__}: {error}"
        wrong = (got.cpu().double() - _expected(call, k, v)).abs().max().item()
        if not wrong <= HALF_TOLERANCE:
            return f"pages: off by {wrong:.2g}, {HALF_TOLERANCE:.2g} is allowed"
    return None


def _made(
    asked: PagedCall, shapes: tuple[tuple[int, int], ...]
) -> tuple[PagedCall, Tensor, Tensor]:
    """A step of these shapes, and the keys and values in all slots: [slots, heads, D]."""
    device, size = asked.query.device, asked.step.pages.size
    generator = torch.Generator().manual_seed(0)

    def tensor(*shape: int) -> Tensor:
        made = torch.randn(*shape, generator=generator, device="cpu")
        return made.to(device, asked.query.dtype)

    segments, start, block = [], 0, 0
    for length, past in shapes:
        count = -(-(past + length) // size)
        segments.append(Segment(start, length, past, [range(block + count - 1, block - 1, -1)]))
        start, block = start + length, block + count
    kind: type[Pages] = type(asked.keys)
    store = PageStore([block], size, [0], "auto", lambda device: kind)
    window = None if asked.sight.window is None else WINDOW
    step = Step(segments, store, [Lane(BlockPool(block, size), window)], device)
    k, v = (tensor(block * size, page.data.shape[0], page.data.shape[3]) for page in _pages(asked))
    keys, values = store.of(0, 0, k, v)
    keys.write_both(values, torch.arange(block * size, device=device), k, v)
    sight = Sight(_never, causal=window is None, window=window)
    query = tensor(start, asked.query.shape[1], asked.dim)
    call = PagedCall(query, keys, values, step, 0, sight, asked.scale, sinks=asked.sinks)
    return call, k, v


def _pages(call: PagedCall) -> tuple[Pages, Pages]:
    return call.keys, call.values


def _never(queries: Tensor, keys: Tensor) -> Tensor:
    raise AssertionError("what the sight says of itself is enough")


def _expected(call: PagedCall, k: Tensor, v: Tensor) -> Tensor:
    """[T, H, D] float64 on the CPU, sequence by sequence."""
    size, parts = call.step.pages.size, []
    for segment in call.step.segments:
        places = torch.arange(segment.total)
        blocks = torch.tensor(segment.blocks[0])
        slots = blocks[places // size] * size + places % size
        q = call.query[segment.start : segment.stop]
        tensors = [x.cpu().double() for x in (q, k[slots.to(k.device)], v[slots.to(v.device)])]
        parts.append(_alone(call, *(x.transpose(0, 1)[None] for x in tensors)))
    return torch.cat(parts, 1).transpose(0, 1)


def _alone(call: PagedCall, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    window = call.sight.window
    if call.sinks is not None:  # one more key, that gives nothing: its score is the sink
        return _sunk(call, q, k, v)
    band = None if window is None else (window - 1, 0)
    return Reference().run(Call(q, k, v, causal=True, window=band, scale=call.scale))[0]


def _sunk(call: PagedCall, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    assert call.sinks is not None
    heads, queries, keys = q.shape[1], q.shape[2], k.shape[2]
    k, v = (x.repeat_interleave(heads // x.shape[1], 1)[0] for x in (k, v))
    scores = q[0] @ k.mT * call.scale
    behind = torch.arange(queries)[:, None] + keys - queries - torch.arange(keys)
    reach = keys if call.sight.window is None else call.sight.window
    scores = scores.masked_fill((behind < 0) | (behind >= reach), -torch.inf)
    sinks = call.sinks.cpu().double().view(-1, 1, 1).expand(heads, queries, 1)
    return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1] @ v

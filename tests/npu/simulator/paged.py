"""Keys and values in blocks: writing them and finding those of one sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from .arguments import Arguments
from .checks import Checks
from .simulation import Simulation


def scatter_pa_kv_cache(call: Arguments, checks: Checks, simulation: Simulation) -> None:
    """Writes [T, N, D] keys and values at their slots of [blocks, block, N, D] caches."""
    checks.need(simulation.chip.family != "310P", "the operator does not exist on this chip")
    checks.need(
        call.cache_mode in (None, "Norm"),
        f"cache_mode {call.cache_mode!r} (PA_NZ is the default) needs caches in NZ format; "
        "pass cache_mode='Norm' for ND",
    )
    _write(checks, call.key, call.value, call.key_cache, call.value_cache, call.slot_mapping)


def reshape_and_cache(call: Arguments, checks: Checks, simulation: Simulation) -> None:
    """ATB's older way to write; it needs int32 slots."""
    checks.known(simulation.chip.family != "310P", "NZ caches, which this chip uses")
    slots = call.slot_indices
    checks.need(slots.dtype == torch.int32, f"slot_indices is {slots.dtype}, expected int32")
    _write(checks, call.key, call.value, call.key_cache, call.value_cache, slots)


def _write(
    checks: Checks,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slots: Tensor,
) -> None:
    named = {
        "key": key,
        "value": value,
        "key_cache": key_cache,
        "value_cache": value_cache,
        "slot_mapping": slots,
    }
    for name, tensor in named.items():
        checks.need(tensor.is_contiguous(), f"{name} is not contiguous")
    integers = (torch.int32, torch.int64)
    checks.need(slots.dtype in integers, f"slot_mapping is {slots.dtype}, expected {integers}")
    checks.need(key.dim() == value.dim() == 3, "key and value must be [tokens, heads, head size]")
    checks.need(
        key_cache.dim() == value_cache.dim() == 4, "caches must be [blocks, block, heads, size]"
    )
    dtypes = {tensor.dtype for tensor in (key, value, key_cache, value_cache)}
    checks.need(len(dtypes) == 1, f"key, value and caches differ in dtype: {dtypes}")
    checks.need(key.shape[:2] == value.shape[:2], "key and value differ in tokens or heads")
    for rows, cache in ((key, key_cache), (value, value_cache)):
        checks.need(rows.shape[1:] == cache.shape[2:], f"{rows.shape} does not fit {cache.shape}")
    checks.need(slots.shape == key.shape[:1], f"{slots.shape} slots for {key.shape[0]} tokens")
    if not slots.numel():
        return
    room = key_cache.shape[0] * key_cache.shape[1]
    low, high = int(slots.min()), int(slots.max())
    checks.need(low >= 0 and high < room, f"slots {low}..{high} are not in 0..{room - 1}")
    checks.avoid(slots.unique().numel() < slots.numel(), "slots repeat")
    key_cache.flatten(0, 1)[slots.long()] = key
    value_cache.flatten(0, 1)[slots.long()] = value


def check_table(
    checks: Checks, table: Tensor, lengths: list[int], cache: Tensor, block: int, batch: int
) -> None:
    """The block table reaches all positions of all sequences.

    Args:
        table: [B, max_blocks] int32.
        lengths: of each sequence, in tokens.
        cache: [blocks, block, H] or [blocks, N, block, D].
        block: block_size as the call says it.
        batch: sequences of the call.
    """
    checks.need(table.dtype == torch.int32, f"block_table is {table.dtype}, expected int32")
    good = table.dim() == 2 and table.shape[0] == batch
    checks.need(good, f"block_table is {tuple(table.shape)}, expected [{batch}, blocks]")
    own = cache.shape[1 if cache.dim() == 3 else 2]
    checks.need(own == block, f"block_size is {block}, but the cache's blocks hold {own}")
    for row, length in enumerate(lengths[:batch]):
        used = -(-length // block)
        checks.need(
            used <= table.shape[1],
            f"sequence {row} has {length} tokens, its block_table reaches {table.shape[1] * block}",
        )
        ids = table[row, :used]
        good = used == 0 or (int(ids.min()) >= 0 and int(ids.max()) < cache.shape[0])
        checks.need(good, f"block_table row {row} names blocks outside 0..{cache.shape[0] - 1}")


def gather(cache: Tensor, blocks: Tensor, length: int, heads: int) -> Tensor:
    """[1, heads, length, D] of one sequence.

    Args:
        cache: [blocks, block, heads * D] or [blocks, heads, block, D].
        blocks: the sequence's row of the block table.
    """
    mine = cache[blocks.long()]
    if cache.dim() == 3:
        rows = mine.reshape(-1, heads, cache.shape[2] // heads).transpose(0, 1)
    else:
        rows = mine.transpose(0, 1).flatten(1, 2)
    return rows[:, :length].unsqueeze(0)

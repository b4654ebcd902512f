"""npu_prompt_flash_attention, the only fused attention that every inference card has."""

from __future__ import annotations

import torch
from torch import Tensor

from .arguments import Arguments
from .attend import attend
from .checks import Checks
from .layouts import check_rank, from_bnsd, heads_in, to_bnsd
from .masks import FAR, Sparse, check_mask, dropped, handle_blind
from .simulation import Simulation

LAYOUTS = ("BSH", "BSND", "BNSD")
INTEGERS = (torch.int8, torch.uint8)


def prompt_flash_attention(call: Arguments, checks: Checks, simulation: Simulation) -> Tensor:
    """Dense attention for inference; fp16 alone on 310P, where most options do not exist."""
    family = simulation.chip.family
    checks.need(family != "950", "the operator does not exist on this chip")
    checks.need(call.padding_mask is None, "padding_mask is reserved")
    _check_tensors(call, checks)
    if family == "310P":
        _check_310p(call, checks)
    heads, layout = call.num_heads, call.input_layout
    q = to_bnsd(call.query, layout, heads)
    kv_heads = heads_in(call.key, layout, q.shape[3])
    asked = call.num_key_value_heads or heads
    checks.need(asked == kv_heads, f"num_key_value_heads {asked}, but key has {kv_heads}")
    checks.need(heads % kv_heads == 0 and heads // kv_heads <= 64, f"{heads} over {kv_heads} heads")
    k, v = (to_bnsd(x, layout, kv_heads) for x in (call.key, call.value))
    sparse = Sparse(call.atten_mask, call.sparse_mode, call.pre_tokens, call.next_tokens)
    _check_sparse(call, checks, simulation, sparse)
    (batch, _, rows, _), keys = q.shape, k.shape[2]
    shapes = {(rows, keys)} | {(b, *one, rows, keys) for b in (1, batch) for one in ((), (1,))}
    check_mask(checks, sparse, shapes, INTEGERS)
    drop = dropped(sparse, rows, keys)
    if drop is not None and drop.dim() == 3:
        drop = drop.unsqueeze(1)
    drop = handle_blind(checks, simulation.strict, drop, sparse, corrected=False)
    done = attend(q, k, v, call.scale_value, drop, _bias(call, checks, batch, rows, keys))
    return from_bnsd(done.out, layout)


def _check_tensors(call: Arguments, checks: Checks) -> None:
    q, k, v = call.query, call.key, call.value
    halves = (torch.float16, torch.bfloat16)
    checks.need(q.dtype in halves, f"query is {q.dtype}, expected one of {halves}")
    checks.need(q.dtype == k.dtype == v.dtype, "query, key and value differ in dtype")
    check_rank(checks, call.input_layout, LAYOUTS, query=q, key=k, value=v)
    for name, tensor in (("query", q), ("key", k), ("value", v)):
        checks.need(tensor.is_contiguous(), f"{name} is not contiguous")
    checks.need(1 <= call.num_heads <= 256, f"num_heads {call.num_heads} is not in 1..256")
    bsh = call.input_layout == "BSH"
    dim = q.shape[-1] // call.num_heads if bsh else q.shape[-1]
    checks.need(dim <= 512, f"head size {dim} is more than 512")
    checks.need(dim % 16 == 0 or dim <= 128, f"head size {dim} above 128 must be 16-aligned")
    checks.need(
        heads_in(q, call.input_layout, dim) == call.num_heads, "num_heads is not query's heads"
    )
    checks.need(q.shape[0] == k.shape[0] and k.shape == v.shape, "key and value do not fit query")


def _check_310p(call: Arguments, checks: Checks) -> None:
    """Atlas inference cards take less."""
    checks.need(call.query.dtype == torch.float16, "this chip takes float16 only")
    only = {
        "pse_shift": None,
        "actual_seq_lengths": None,
        "actual_seq_lengths_kv": None,
        "num_key_value_heads": 0,
        "sparse_mode": 0,
        "pre_tokens": FAR,
    }
    for name, value in only.items():
        got = getattr(call, name)
        checks.need(got is value or got == value, f"{name} must be {value} on this chip")
    checks.need(call.next_tokens in (0, FAR), "next_tokens must be 0 or 2147483647 on this chip")
    batch, sequence = call.query.shape[0], 2 if call.input_layout == "BNSD" else 1
    checks.need(batch <= 128, f"batch {batch} is more than 128")
    longest = max(call.query.shape[sequence], call.key.shape[sequence])
    checks.need(longest <= 65535, f"{longest} tokens are more than 65535")


def _check_sparse(call: Arguments, checks: Checks, simulation: Simulation, sparse: Sparse) -> None:
    checks.need(sparse.mode in range(5), f"sparse_mode {sparse.mode} is not in 0..4")
    checks.avoid(
        simulation.strict.next_tokens and sparse.mask is None and sparse.after != FAR,
        f"without a mask next_tokens={sparse.after} is documented as ignored and elsewhere as "
        "causal; pass 2147483647",
    )
    for name in ("actual_seq_lengths", "actual_seq_lengths_kv"):
        checks.known(getattr(call, name) is None, name)


def _bias(call: Arguments, checks: Checks, batch: int, rows: int, keys: int) -> Tensor | None:
    pse = call.pse_shift
    if pse is None:
        return None
    checks.need(pse.dtype == call.query.dtype, f"pse_shift is {pse.dtype}, not query's dtype")
    shapes = [(b, call.num_heads, rows, keys) for b in (batch, 1)]
    checks.need(tuple(pse.shape) in shapes, f"pse_shift is {tuple(pse.shape)}, needs {shapes}")
    return pse

# pyright: reportMissingImports=false
"""Puts each tool on a pipeline, as its own documentation says to; gives a way to see what it keeps.

Each is imported where it is used: it lies in a virtual environment of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Kept = Callable[[], Any]  # the tensors that are kept, in containers of any kind


def plain(pipe: Any) -> Kept:
    return tuple


def mindsd(
    pipe: Any, step_cache: str | None = None, token_merge: Any = None, layers: str = "auto"
) -> Kept:
    """Ours; `step_cache` as its text, `token_merge` as its fields, `layers` of `accelerate`."""
    from mindsd import Acceleration, accelerate
    from mindsd.stepcache.plan import StepCache
    from mindsd.tokenmerge.plan import TokenMerge

    wished = Acceleration(
        None if step_cache is None else StepCache.parse(step_cache),
        None if token_merge is None else TokenMerge(**token_merge),
    )
    accelerated = accelerate(pipe, wished, layers=layers)

    def kept() -> Any:
        trajectory = accelerated._trajectory
        return [] if trajectory is None else [trajectory.cells, trajectory.merges]

    return kept


def deepcache(pipe: Any, interval: int) -> Kept:
    from DeepCache import DeepCacheSDHelper

    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=interval, cache_branch_id=0)
    helper.enable()
    return lambda: helper.cached_output


def tomesd(pipe: Any, ratio: float, max_downsample: int) -> Kept:
    import tomesd

    tomesd.apply_patch(pipe, ratio=ratio, max_downsample=max_downsample)
    return tuple  # makes all anew in every block


def first_block_cache(pipe: Any, threshold: float) -> Kept:
    from diffusers import FirstBlockCacheConfig

    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    hooks = pipe.transformer.transformer_blocks[0]._diffusers_hook.hooks
    (manager,) = (hook.state_manager for hook in hooks.values() if hasattr(hook, "state_manager"))
    return lambda: [vars(state) for state in manager._state_cache.values()]


def cache_dit(pipe: Any, mask: str) -> Kept:
    """DBCache F1B0 with the steps that run whole given beforehand ("1001...")."""
    import cache_dit

    whole = [int(sign) for sign in mask]
    config = cache_dit.DBCacheConfig(
        Fn_compute_blocks=1,
        Bn_compute_blocks=0,
        max_warmup_steps=0,
        num_inference_steps=len(whole),
        steps_computation_mask=whole,
        steps_computation_policy="static",
    )
    cache_dit.enable_cache(pipe, cache_config=config)
    manager = pipe._context_manager
    return lambda: [own.buffers for own in manager._cached_context_manager.values()]


TOOLS: dict[str, Callable[..., Kept]] = {
    "plain": plain,
    "mindsd": mindsd,
    "deepcache": deepcache,
    "tomesd": tomesd,
    "first-block-cache": first_block_cache,
    "cache-dit": cache_dit,
}

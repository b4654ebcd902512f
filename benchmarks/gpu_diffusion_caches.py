"""Images with steps left out: ours beside unmodified peers, with and without torch.compile.

All tools of a row group run the same steps whole: those of DeepCache are every third or fifth, and
for Flux they are the ones that FirstBlockCache chose. Peers are compiled as diffusers compiles
large models, block by block; what that cannot do is said. cache-dit leaves a forward of its own on
the transformer, which computes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from gpu_diffusion_clock import Clock, ratio, spread
from gpu_diffusion_steps import first_line
from gpu_diffusion_ways import Skipped, regional
from peers.models import denoiser as denoiser_of
from peers.worker import sizes
from torch import Tensor

from mindsd import Acceleration, accelerate
from mindsd.stepcache.plan import StepCache

PLAIN = "plain diffusers"
Kept = Callable[[], Any]


def caches(
    name: str, pipe: Any, asked: dict[str, Any], rounds: int, threshold: float, clock: Clock
) -> dict[str, Any]:
    """Seconds of an image by way, and the bytes of what each keeps between its steps."""
    mask = ""
    for _ in range(5 if name == "flux" else 0):  # what is much or little change is the weights'
        mask = _chosen(pipe, asked, threshold, clock)
        clock.say(f"flux caches: FirstBlockCache {threshold:g} runs {mask} whole")
        if "0" in mask:
            break
        threshold *= 2
    seconds: dict[str, list[float]] = {}
    kept: dict[str, int] = {}
    plain, gone = _image(pipe, asked), set()
    for turn in range(rounds):
        for way, put_on in _ways(name, mask, threshold).items():
            if clock.is_over or way in gone:
                continue
            try:
                with put_on(pipe) as own:
                    if turn == 0:
                        _image(pipe, asked)  # compiles, and touches for the first time
                    found: list[int] = []
                    took = clock.timed(lambda own=own, found=found: _image(pipe, asked, own, found))
            except (Skipped, Exception) as error:  # the others go on
                clock.say(f"{name} caches, {way}: skipped, {first_line(error)}")
                gone.add(way)
                continue
            seconds.setdefault(way, []).append(took)
            kept[way] = found[0]
            clock.say(f"{name} caches, {way}: {took:.3f} s, kept {found[0] / 2**20:.1f} MiB")
    if not torch.equal(_image(pipe, asked), plain):
        clock.say(f"{name} caches: some tool did not give the model back as it was")
    for way, own in seconds.items():
        size = f"kept {kept[way] / 2**20:.1f} MiB"
        faster = f"{ratio(seconds[PLAIN], own):.2f}x of plain"
        clock.say(f"{name} caches | {way} | {spread(own)} s | {faster} | {size}")
    return {way: {"seconds": own, "kept": kept[way]} for way, own in seconds.items()}


def _ways(name: str, mask: str, threshold: float) -> dict[str, Any]:
    """In turns: what is compared side by side stands side by side."""
    if name == "sdxl":
        bare = {f"DeepCache every {every}": _deepcache(every) for every in (3, 5)}
        own = {f"mindsd interval:{every}": f"interval:{every}" for every in (3, 5)}
        own["mindsd skip:3"] = "skip:3"
    else:
        bare = {
            f"FirstBlockCache {threshold:g}": _first_block(threshold),
            "cache-dit F1B0, same steps": _cache_dit(mask),
        }
        skipped = mask.replace("0", "-")
        own = {"mindsd plan, same steps": f"plan:{mask}", "mindsd skips them": f"plan:{skipped}"}
    ways: dict[str, Any] = {PLAIN: _plain, **bare}
    ways |= {way: _ours(cache, "auto") for way, cache in own.items()}
    ways[f"{PLAIN}, ours compiled"] = _lossless
    ways |= {f"{PLAIN}, compiled": _regional(_plain)}
    ways |= {f"{way}, compiled": _regional(put_on) for way, put_on in bare.items()}
    return ways | {f"{way}, compiled": _ours(cache, "compiled") for way, cache in own.items()}


def _image(
    pipe: Any, asked: dict[str, Any], kept: Kept | None = None, found: list[int] | None = None
) -> Tensor:
    """The latents of an image; the bytes that a tool keeps when its last step has ended."""
    last = asked["num_inference_steps"] - 1

    def ended(pipe: Any, index: int, *_: Any) -> dict[str, Any]:
        if index == last and kept is not None and found is not None:
            found.append(sizes(kept())[0])
        return {}

    more = {"generator": torch.Generator().manual_seed(1), "callback_on_step_end": ended}
    return pipe(**asked | more).images


def _chosen(pipe: Any, asked: dict[str, Any], threshold: float, clock: Clock) -> str:
    """The steps that FirstBlockCache runs whole, "1001..."."""
    ran: list[int] = []
    mask: list[str] = []
    layer = denoiser_of(pipe).transformer_blocks[1].attn.to_q
    hook = layer.register_forward_pre_hook(lambda *_: ran.append(1))

    def ended(*_: Any) -> dict[str, Any]:
        mask.append(str(int(bool(ran))))
        ran.clear()
        return {}

    try:
        with _first_block(threshold)(pipe):
            clock.timed(lambda: pipe(**asked | {"callback_on_step_end": ended}))
    finally:
        hook.remove()
    return "".join(mask)


@contextmanager
def _plain(pipe: Any) -> Iterator[Kept]:
    yield tuple


@contextmanager
def _lossless(pipe: Any) -> Iterator[Kept]:
    """No step left out: what compiling alone gives here."""
    with accelerate(pipe, speed="lossless", layers="compiled"):
        yield tuple


def _regional(put_on: Any) -> Any:
    """A tool on a model whose repeated blocks diffusers compiled."""

    @contextmanager
    def both(pipe: Any) -> Iterator[Kept]:
        with ExitStack() as stack:
            stack.enter_context(regional(denoiser_of(pipe), fullgraph=False))
            yield stack.enter_context(put_on(pipe))

    return both


def _ours(cache: str, layers: str) -> Any:
    """No step more than the plan says runs whole, and short images are cached, as peers do it."""

    @contextmanager
    def own(pipe: Any) -> Iterator[Kept]:
        plan = Acceleration(StepCache.parse(f"{cache},last=0,least=1"))
        with accelerate(pipe, plan, layers=layers) as accelerated:

            def kept() -> Any:
                now = accelerated._trajectory
                return [] if now is None else [now.cells, now.merges]

            yield kept

    return own


def _deepcache(interval: int) -> Any:
    @contextmanager
    def own(pipe: Any) -> Iterator[Kept]:
        _needs("DeepCache")
        from DeepCache import DeepCacheSDHelper  # pyright: ignore[reportMissingImports]

        helper = DeepCacheSDHelper(pipe=pipe)
        helper.set_params(cache_interval=interval, cache_branch_id=0)
        helper.enable()
        try:
            yield lambda: helper.cached_output
        finally:
            helper.disable()

    return own


def _first_block(threshold: float) -> Any:
    @contextmanager
    def own(pipe: Any) -> Iterator[Kept]:
        from diffusers import FirstBlockCacheConfig

        model = pipe.transformer
        model.enable_cache(FirstBlockCacheConfig(threshold=threshold))
        hooks = model.transformer_blocks[0]._diffusers_hook.hooks.values()
        (manager,) = (hook.state_manager for hook in hooks if hasattr(hook, "state_manager"))
        try:
            yield lambda: [vars(state) for state in manager._state_cache.values()]
        finally:
            model.disable_cache()

    return own


def _cache_dit(mask: str) -> Any:
    @contextmanager
    def own(pipe: Any) -> Iterator[Kept]:
        _needs("cache_dit")
        import cache_dit  # pyright: ignore[reportMissingImports]
        from peers.tools import cache_dit as put_on

        kept = put_on(pipe, mask)
        try:
            yield kept
        finally:
            cache_dit.disable_cache(pipe)

    return own


def _needs(package: str) -> None:
    if find_spec(package) is None:
        raise Skipped(f"{package} is not installed")

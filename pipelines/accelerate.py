"""Any diffusers pipeline with less work, without the engine: put on, and taken off again.

with accelerate(pipe, speed="balanced"):
    pipe("a fox")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from mindsd.allocator import Kept, keep_large
from mindsd.attention.compiled import Compiled
from mindsd.attention.cpu_fused import CpuFused, fuse_large
from mindsd.attention.for_diffusers import Attached, attach
from mindsd.attention.image_layers import COMPILED, lay_below
from mindsd.attention.int8_layers import round_layers
from mindsd.attention.layers import IMAGE_EIGHT_BITS, check_layers
from mindsd.attention.npu_fused import Fused
from mindsd.attention.registry import default_registry
from mindsd.batching.counts import Counts
from mindsd.config import Acceleration, speed_named
from mindsd.errors import RequestError
from mindsd.pipelines.fingerprint import fingerprint
from mindsd.pipelines.guidance import find_guidance, looks_inside
from mindsd.pipelines.modules import (
    find_advisers,
    find_denoisers,
    find_open,
    is_accelerated,
    modules,
)
from mindsd.pipelines.profile import Profile
from mindsd.stepcache.advice import follow_advice
from mindsd.stepcache.calls import follow_calls
from mindsd.stepcache.denoiser import Denoiser
from mindsd.stepcache.trajectory import Trajectory, following
from mindsd.wrap import Wrap

LAYERS = ("auto", "off", "int8", *COMPILED)


@contextmanager
def accelerated(
    kind: type, scheduler: Any, acceleration: Acceleration, seed: int, counts: Counts
) -> Iterator[None]:
    """Calls made inside are one image's own trajectory, where it is to do less.

    Args:
        kind: class of the pipeline that makes them.
        scheduler: the image's own.
        seed: of what is drawn at random.
        counts: of what was done, and what was not.
    """
    if acceleration.is_plain:
        yield
        return
    guidance = find_guidance(kind)
    own = Trajectory(scheduler, acceleration, guidance, seed=seed, expected_images=1)
    try:
        with following(own):
            yield
    finally:
        counts.spared += own.spared


class Accelerated:
    """An acceleration on a pipeline; made by `accelerate`. Usable as a context manager.

    Attributes:
        on_cpu: modules made fast on a CPU without doing less.
        below: its blocks as torch compiled them.
        quantized: the layers of its denoisers in 8 bits.
        attached: our attention, where the modules are large, on a CPU, and it outdoes torch's.
    """

    def __init__(self, pipe: DiffusionPipeline, acceleration: Acceleration, layers: str = "auto"):
        self._pipe: Any = pipe
        self._acceleration = acceleration
        self._trajectory: Trajectory | None = None
        self._wraps: list[Wrap] = []
        self._denoisers: dict[str, Denoiser] = {}
        self.on_cpu: dict[str, CpuFused] = {}
        self.below: list[Compiled] = []
        self.quantized: dict[str, Fused] = {}
        self._kept: Kept | None = None
        self.attached: Attached | None = None
        try:
            if layers == "int8":  # before what is fused looks at it
                for name, own in find_denoisers(pipe.components).items():
                    self.quantized[name] = round_layers(own)
            self.below = lay_below(layers, find_denoisers(pipe.components))
            if layers not in ("off", *COMPILED):  # below all that looks at what blocks are given
                self.on_cpu = fuse_large(modules(pipe.components))
                self._kept = keep_large() if self.on_cpu else None
            self._put(find_denoisers(pipe.components))
            self.attached = self._attach() if self.on_cpu else None
        except BaseException:
            self.remove()
            raise

    def _put(self, steppers: Mapping[str, Any]) -> None:
        for name, module in steppers.items():
            self._denoisers[name] = Denoiser(module)
        check(self._pipe, self._denoisers, self._acceleration)
        for own in steppers.values():
            self._wraps.append(follow_calls(own, self._find))
        for own in find_advisers(self._pipe.components).values():
            self._wraps.append(follow_advice(own, self._find))
        self._find()  # follows the scheduler from its next set_timesteps on

    def _attach(self) -> Attached | None:
        """Our attention, where it outdoes torch's."""
        weight = next(next(iter(modules(self._pipe.components).values())).parameters())
        if not default_registry().outdoes_torch(weight.device, weight.dtype):
            return None
        return attach(self._pipe)

    def remove(self) -> None:
        """Everything as it was; doing it twice does nothing."""
        if self.attached is not None:
            self.attached.remove()
        if self._kept is not None:
            self._kept.remove()
        on_layers = *self.on_cpu.values(), *reversed(self.below), *self.quantized.values()
        for own in (*self._wraps, *self._denoisers.values(), *on_layers):
            own.remove()
        if self._trajectory is not None:
            self._trajectory.remove()
            self._trajectory = None

    def _find(self) -> Trajectory:
        """The trajectory of the pipeline's present scheduler, which may have been exchanged."""
        if self._trajectory is None or self._trajectory.scheduler is not self._pipe.scheduler:
            if self._trajectory is not None:
                self._trajectory.remove()
            guidance = find_guidance(type(self._pipe))
            self._trajectory = Trajectory(self._pipe.scheduler, self._acceleration, guidance)
        return self._trajectory

    def __enter__(self) -> Accelerated:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def accelerate(
    pipe: DiffusionPipeline,
    acceleration: Acceleration | None = None,
    *,
    speed: str | None = None,
    profile: str | Path | None = None,
    layers: str = "auto",
) -> Accelerated:
    """Make a diffusers pipeline do less, until the result is removed or left as a context.

    With nothing left out it does all that it did, by faster `layers`.

    The pipeline is used as always, by one thread at a time; its classes, scheduler and processors
    stay what they are. A large one on a CPU does what it does faster, too.

    Args:
        pipe: any diffusers pipeline with a denoiser and a scheduler.
        acceleration: what is left out.
        speed: instead, by name: "lossless", "quality", "balanced" or "fast".
        profile: instead, a file that `mindsd tune` wrote for this model.
        layers: "auto" makes layers of large models on a CPU fast (attention/cpu_fused.py), "off"
            leaves the model its own; "int8" is "auto" with large layers of the denoiser in 8 bits,
            on a CPU (attention/int8_layers.py); "compiled" and "fp8" as attention/image_layers.py
            says.

    Raises:
        RequestError: this pipeline cannot do it or runs on an engine; more than one is given; the
            profile is broken or another model's; unknown layers, or none that can be had here.
    """
    check_layers(layers, pipe.device.type, pipe.dtype, LAYERS, IMAGE_EIGHT_BITS)
    if sum(given is not None for given in (acceleration, speed, profile)) > 1:
        raise RequestError("say an acceleration, a speed or a profile, one of the three")
    if is_accelerated(pipe):
        raise RequestError("this pipeline is accelerated already; leave the first before another")
    if find_open(pipe.components):
        raise RequestError(
            "this pipeline runs on an engine; say acceleration or speed to its requests instead"
        )
    if profile is not None:
        acceleration = Profile.read(profile).acceleration_for(fingerprint(pipe))
    if speed is not None:
        acceleration = speed_named(speed)
    return Accelerated(pipe, acceleration or Acceleration(), layers)


def check(
    pipe: DiffusionPipeline, denoisers: Mapping[str, Denoiser], acceleration: Acceleration
) -> None:
    """Refuse what a pipeline cannot do.

    Raises:
        RequestError: names it.
    """
    kind = type(pipe).__name__
    if acceleration.is_plain:
        return
    if not denoisers or not hasattr(pipe, "scheduler"):
        raise RequestError(f"{kind} has no denoiser and scheduler of diffusers' kind to accelerate")
    if any(isinstance(part, DiffusionPipeline) for part in vars(pipe).values()):
        raise RequestError(f"{kind} is made of several pipelines; accelerate each by itself")
    if looks_inside(type(pipe)):
        raise RequestError(f"{kind} depends on all that its denoiser does; leave acceleration out")
    for denoiser in denoisers.values():
        denoiser.check(acceleration)
    if acceleration.guidance_until < 1 and find_guidance(type(pipe)) is None:
        raise RequestError(f"{kind} guides in a way that is not known; leave guidance_until out")

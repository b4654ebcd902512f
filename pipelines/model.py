"""A loaded model: its pipeline, opened to one engine for as long as somebody uses it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from diffusers import DiffusionPipeline

from mindsd.allocator import Kept, keep_large
from mindsd.aside import aside
from mindsd.attention.chosen import check_attention, registry_of
from mindsd.attention.compiled import Compiled
from mindsd.attention.cpu_fused import CpuFused, fuse_large
from mindsd.attention.for_diffusers import Attached, attach
from mindsd.attention.image_layers import COMPILED, lay_below
from mindsd.attention.int8_layers import round_layers
from mindsd.attention.layers import IMAGE_EIGHT_BITS, IMAGE_LAYERS, check_layers
from mindsd.attention.npu_elsewhere import keep_off
from mindsd.attention.npu_fused import Fused, fuse
from mindsd.attention.npu_w8a8 import quantize
from mindsd.batching.image_adapters import ImageAdapters
from mindsd.device import Device
from mindsd.engine import Engine, Limits
from mindsd.errors import RequestError
from mindsd.pipelines.fingerprint import fingerprint, fingerprint_of
from mindsd.pipelines.modules import (
    find_advisers,
    find_denoisers,
    find_open,
    is_accelerated,
    modules,
    open_modules,
)
from mindsd.pipelines.precision import Precisions, upcast_copy
from mindsd.pipelines.shared_engine import SharedEngine
from mindsd.pipelines.tiles import tileable
from mindsd.request import Request
from mindsd.stepcache.advice import follow_advice
from mindsd.stepcache.calls import follow_calls
from mindsd.stepcache.denoiser import Denoiser
from mindsd.stepcache.trajectory import present_trajectory
from mindsd.weights.defaults import CallDefaults
from mindsd.wrap import Wrap

EIGHT_BITS = {"w8a8": quantize, "int8": round_layers}
MEMORY_SHARE = 0.8  # of what is free when the model gets its engine


@dataclass(eq=False)
class LoadedModel:
    """A diffusers pipeline whose heavy modules many requests share, and the engine they share.

    Several `TextToImage`, `ImageToImage` and `Inpaint` may be made on one. The first to come opens
    the modules and starts the engine; the last to leave stops it and gives the pipeline back as
    diffusers made it.

    Attributes:
        name: what people call it.
        pipe: the diffusers pipeline; requests use copies of it and share its weights.
        device: where it lives.
        attention: "auto" puts our attention on it where that outdoes torch's, "off" never; others
            as attention/chosen.py says.
        layers: what runs beside attention, as attention/layers.py says it.
        defaults: its folder's own choices where a request says nothing.
        vae: the name of the autoencoder that stands in its own's place; "" for its own.
        attached: our attention, while it is on.
        fused: what stands beside attention, in an NPU's fused operators, while it is on.
        on_cpu: its modules made fast on a CPU, while they are.
        quantized: the layers of the denoisers in 8 bits, while they are.
        below: its blocks as torch compiled them, while it is open.
        denoisers: the modules that steps are made with, ready to do less, while it is open.
        loras: its LoRA adapters; they go when it is shut.
        shared: its users and their engine.
    """

    name: str
    pipe: DiffusionPipeline
    device: Device
    attention: str = "auto"
    layers: str = "auto"
    defaults: CallDefaults = CallDefaults()
    vae: str = ""
    attached: Attached | None = None
    fused: dict[str, Fused] = field(default_factory=dict)
    on_cpu: dict[str, CpuFused] = field(default_factory=dict)
    quantized: dict[str, Fused] = field(default_factory=dict)
    below: list[Compiled] = field(default_factory=list)
    denoisers: dict[str, Denoiser] = field(default_factory=dict)
    loras: ImageAdapters = field(init=False)
    shared: SharedEngine = field(init=False)
    _wraps: list[Wrap] = field(default_factory=list)
    _kept: Kept | None = None  # memory of large tensors, on a CPU
    _upcast: Any = None  # the autoencoder in float32, for pipelines that move it there and back

    def __post_init__(self) -> None:
        check_attention(self.attention, self.device.kind)
        words = IMAGE_LAYERS, IMAGE_EIGHT_BITS
        check_layers(self.layers, self.device.kind, self.pipe.dtype, *words)
        self.loras = ImageAdapters(self.pipe)
        self.shared = SharedEngine(self.name, self._own_engine, self._open, self._close)

    @cached_property
    def fingerprint(self) -> str:
        """Of its weights, as they were when it was first asked; "" where it has none of its own."""
        try:
            return aside(lambda: fingerprint(self.pipe))
        except RequestError:
            return ""

    @cached_property
    def vae_fingerprint(self) -> str:
        """The same of the autoencoder that stands in its own's place; "" for its own."""
        own = {"vae": self.pipe.components["vae"]} if self.vae else {}
        return aside(lambda: fingerprint_of(own)) if own else ""

    def own_parts(self, request: Request) -> dict[str, Any]:
        """The components that each request needs one of its own of, instead of the shared ones."""
        shared = self.pipe.components.get("vae")
        if shared is None:
            return {}
        vae = tileable(shared, request, self.device)
        if self._upcast is None:
            return {"vae": vae}
        return {"vae": Precisions(vae, tileable(self._upcast, request, self.device))}

    def _own_engine(self) -> Engine:
        budget = int(MEMORY_SHARE * self.device.free())
        return Engine(Limits(memory=max(budget, 1)))

    def _open(self, engine: Engine) -> None:
        aside(self._put_on)  # backends test themselves: their workers would stay

    def _put_on(self) -> None:
        if opened := sorted(find_open(self.pipe.components)):
            raise RequestError(
                f"{', '.join(opened)} of {self.name} already run on an engine; make all pipelines "
                "from one model: model = load_model(pipe); TextToImage(model); ImageToImage(model)"
            )
        if is_accelerated(self.pipe):
            raise RequestError(f"{self.name} is under accelerate(); leave that first")
        if (in_eight_bits := EIGHT_BITS.get(self.layers)) is not None:
            # first: it may refuse, and what is fused looks at it
            for name, own in find_denoisers(self.pipe.components).items():
                self.quantized[name] = in_eight_bits(own)
        self._upcast = upcast_copy(self.pipe)
        models = modules(self.pipe.components)
        if self._upcast is not None:
            models["upcast"] = self._upcast
        self.below = lay_below(self.layers, find_denoisers(self.pipe.components))
        if self.layers not in ("off", *COMPILED):
            self._speed_up_cpu(models)  # below all that looks at what blocks are given
        self.loras = ImageAdapters(self.pipe)  # those that were closed stay closed
        for own in modules(self.pipe.components).values():
            self._wraps += keep_off(own)
        steppers = find_denoisers(self.pipe.components)
        for name, module in steppers.items():
            self.denoisers[name] = Denoiser(module)
        self._wraps += open_modules(self.pipe.components, self.quantized)
        self._wraps += [follow_calls(own, present_trajectory) for own in steppers.values()]
        advisers = find_advisers(self.pipe.components)
        self._wraps += [follow_advice(own, present_trajectory) for own in advisers.values()]
        if self._upcast is not None:
            self._wraps += open_modules({"vae": self._upcast})
        if self.layers != "off":
            self.fused = {name: fuse(own) for name, own in modules(self.pipe.components).items()}
        self.attached = self._attach()

    def _close(self) -> None:
        self.loras.close()
        if self.attached is not None:
            self.attached.remove()
        if self._kept is not None:
            self._kept.remove()
        for fused in (*self.fused.values(), *self.quantized.values()):
            fused.remove()
        for own in reversed(self._wraps):
            own.remove()
        for own in (*self.denoisers.values(), *self.on_cpu.values(), *reversed(self.below)):
            own.remove()
        self.attached, self._upcast, self._kept = None, None, None
        self.fused, self.on_cpu, self.quantized = {}, {}, {}
        for own in (self._wraps, self.denoisers, self.below):
            own.clear()

    def _speed_up_cpu(self, models: dict[str, Any]) -> None:
        """A large model's layers as a CPU runs them fast, and its memory kept for it."""
        if self.device.kind != "cpu":
            return
        _ = self.fingerprint, self.vae_fingerprint  # they read the weights as the model has them
        self.on_cpu = fuse_large(models)
        self._kept = keep_large() if self.on_cpu else None

    def _attach(self) -> Attached | None:
        registry, device = registry_of(self.attention), self.device.torch
        if registry is None or self.layers in COMPILED:
            return None
        dtype = next(next(iter(modules(self.pipe.components).values())).parameters()).dtype
        wanted = self.attention != "auto" or registry.outdoes_torch(device, dtype)
        return attach(self.pipe, registry) if wanted else None

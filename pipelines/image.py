"""What the image pipelines share: load, submit, wait; and the request body, one diffusers call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from mindsd.aside import aside
from mindsd.batching.rows import Weighted, adapted
from mindsd.config import Acceleration
from mindsd.engine import Engine
from mindsd.errors import EngineClosed, RequestError
from mindsd.pipelines.accelerate import accelerated, check
from mindsd.pipelines.arguments import Arguments
from mindsd.pipelines.fingerprint import fingerprint
from mindsd.pipelines.image_result import ImageResult, wait_for_all
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.model import LoadedModel
from mindsd.pipelines.notices import notices
from mindsd.pipelines.own import own_copy
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.picture import Picture, first_image, fit_picture, read_picture
from mindsd.pipelines.preview import Previews
from mindsd.pipelines.profile import Profile
from mindsd.pipelines.size import sized
from mindsd.pipelines.solo import restored, why_solo
from mindsd.pipelines.weighting import check_weighting, weigh
from mindsd.request import Need, Notice, Request, Step


class ImagePipeline:
    """One loaded model and the engine that runs it. Subclasses say what kind of images it makes.

    Args:
        model: what `load_model` gives; several pipelines may share one.
        engine: one that already runs, for several models; whoever made it closes it. Without it
            all pipelines of one model share the model's own.
    """

    def __init__(self, model: LoadedModel, engine: Engine | None = None):
        self.model = model
        self.pipe = self._suitable(model.pipe)
        self.arguments = Arguments(self.pipe, model.name, model.defaults)
        self.engine = model.shared.join(engine)
        self._previews = Previews(self.pipe)
        self._closed = False

    @classmethod
    def load(
        cls,
        model: str | Path | DiffusionPipeline,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        layers: str = "auto",
        vae: str | Path | None = None,
    ) -> Self:
        """Load an embedded model ("tiny-sd"), a diffusers folder, or take a diffusers pipeline.

        Args:
            device: "auto" (the fastest this machine has), "npu", "cuda" or "cpu".
            dtype: "auto" (what is fast there), "float32", "float16" or "bfloat16".
            attention, layers, vae: as `load_model` takes them: how it computes, and decodes.

        Raises:
            ModelError: the model is missing, incomplete or not safe to load.
            RequestError: the device, dtype, attention or layers cannot be had.
        """
        return cls(load_model(model, device, dtype, attention, layers, vae))

    @classmethod
    def _suitable(cls, pipe: DiffusionPipeline) -> DiffusionPipeline:
        """The pipeline for this kind of images that shares the loaded one's weights."""
        return pipe

    def complete(
        self, parameters: ImageParameters, picture: Image.Image | None = None
    ) -> ImageParameters:
        """The parameters with what they leave open filled in, where the model says it.

        Steps, guidance and options are the model folder's; the size is the picture's, else the
        model's own; a speed is the plan for this kind of model.

        Raises:
            RequestError: the size is not one that the model can draw.
        """
        given = picture.size if picture else None
        return sized(self.pipe, self.model.name, self.arguments.filled(parameters), given)

    def tuned(self, profile: str | Path, *, force: bool = False) -> Acceleration:
        """What `mindsd tune` found for this model, for `acceleration=` of its calls.

        Raises:
            RequestError: the file is no profile, or one of another model and `force` is not said.
        """
        own = aside(lambda: fingerprint(self.pipe))
        return Profile.read(profile).acceleration_for(own, force=force)

    @property
    def loras(self) -> tuple[str, ...]:
        """Names of the LoRA adapters that the model has now, the oldest first."""
        return self.model.loras.names

    def add_lora(self, name: str, path: str | Path) -> None:
        """Load a LoRA for requests with `loras=[(name, weight)]`, on all pipelines of this model.

        Args:
            path: a .safetensors file, or a folder that diffusers' `save_lora_weights` wrote.

        Raises:
            ModelError: the file is not safe, more than plain LoRA, or made for another model.
            RequestError: the name is taken.
        """
        self._check_open()
        self.model.loras.add(name, path)

    def remove_lora(self, name: str) -> None:
        """Forget a LoRA; refused with a RequestError while requests run with it."""
        self._check_open()
        self.model.loras.remove(name)

    def submit(
        self,
        parameters: ImageParameters,
        *,
        preview_every: int = 0,
        priority: int = 0,
        **pictures: Picture,
    ) -> Request:
        """Ask for one image; its request's result is a PIL image.

        Args:
            parameters: what to draw.
            preview_every: emit a `Preview` after every so many steps; 0 for none.
            priority: higher goes first.
            pictures: those this kind of pipeline takes, resized to the parameters' size.

        Raises:
            RequestError: the model's pipeline cannot do what the parameters ask.
            QueueFull: the engine has too many requests waiting.
        """
        self._check_open()
        opened = {name: read_picture(picture) for name, picture in pictures.items()}
        whole = self.complete(parameters, next(iter(opened.values()), None))
        assert whole.width and whole.height
        self._check(whole)
        size = (whole.width, whole.height)
        given = self.arguments.of(whole)
        given |= {name: fit_picture(picture, size) for name, picture in opened.items()}
        if whole.scheduler is not None:
            # Refused here, not on the engine's thread.
            self.arguments.scheduler(whole.scheduler, whole.steps)

        guided = whole.guidance is None or self.arguments.guides(whole.guidance)
        need = Need(
            rows=2 if guided else 1,
            memory=self.arguments.memory(whole, self.model.device.total),
            priority=priority,
            solo=why_solo(self.pipe, whole.options) is not None,
        )

        def submit(adapters: Weighted) -> Request:
            def body(request: Request) -> Image.Image:
                with adapted(adapters):
                    return self._draw(request, whole, given, preview_every)

            return self.model.shared.watch(self.engine.submit(body, need))

        return self.model.loras.start(whole.loras, submit)

    def _draw(
        self,
        request: Request,
        parameters: ImageParameters,
        given: Mapping[str, Any],
        preview_every: int,
    ) -> Image.Image:
        """The body: the pipeline's own call, on the request's own copy of it."""
        heard: list[torch.Tensor] = []  # of a step that is several scheduler calls, the last counts
        for text in notices(self.arguments, parameters):
            request.emit(Notice(text))

        def on_step(step: int, total: int) -> None:
            request.emit(Step(step, total, request.seconds()))
            if preview_every and heard and step % preview_every == 0:
                assert parameters.width and parameters.height
                self._previews.emit(request, heard[0], step, parameters.width, parameters.height)

        def on_latents(latents: torch.Tensor) -> None:
            heard[:] = [latents]

        parts = self.model.own_parts(request)
        if parameters.scheduler is not None:
            parts["scheduler"] = self.arguments.scheduler(parameters.scheduler)
        generator = torch.Generator("cpu").manual_seed(parameters.seed)
        mine: Any = own_copy(
            self.pipe,
            on_step,
            on_latents=on_latents if preview_every else None,
            generator=generator,
            parts=parts,
        )
        fixed = {"generator": generator, "return_dict": False}
        taken = {name: value for name, value in fixed.items() if name in self.arguments.accepted}
        undone = restored(mine) if request.need.solo else nullcontext()
        own = (type(self.pipe), mine.scheduler, parameters.acceleration, parameters.seed)
        with accelerated(*own, self.engine.counts), undone:
            given = weigh(mine, self.arguments, parameters, given, request)
            image = first_image(mine(**given, **taken))
        if image.size != (parameters.width, parameters.height):
            request.emit(Notice(f"{type(self.pipe).__name__} chose another size: {image.size}"))
        return image

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosed("this pipeline was closed; load it again")

    def _check(self, parameters: ImageParameters) -> None:
        """Refuse weights or an acceleration that this model cannot have."""
        check_weighting(self.arguments, parameters)
        if parameters.acceleration.is_plain:
            return
        reason = why_solo(self.pipe, parameters.options)
        if reason is not None:
            raise RequestError(f"no acceleration where {reason}; leave it out")
        check(self.pipe, self.model.denoisers, parameters.acceleration)

    def _run(
        self, parameters: Sequence[ImageParameters], pictures: Sequence[Mapping[str, Picture]]
    ) -> ImageResult:
        return wait_for_all(self.submit, parameters, pictures)

    def close(self) -> None:
        """Leave the model; the last to do so stops its engine and takes everything off it again."""
        if not self._closed:
            self._closed = True
            self.model.shared.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

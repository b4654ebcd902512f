"""What the image pipelines share: load, submit, wait; and the request body, one diffusers call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from mindsd.attention.for_diffusers import Attached, attach
from mindsd.attention.registry import default_registry
from mindsd.engine import Engine, Limits
from mindsd.errors import ModelError
from mindsd.pipelines.arguments import Arguments
from mindsd.pipelines.loading import LoadedModel, load_model, modules
from mindsd.pipelines.own import own_copy
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.picture import Picture, fit_picture, read_picture
from mindsd.pipelines.preview import LatentToRGB, fit
from mindsd.request import Need, Notice, Preview, Request, Step

MEMORY_SHARE = 0.8  # of what is free when the model is loaded


@dataclass(frozen=True)
class ImageResult:
    """Images (PIL, RGB) in the order of the prompts, and the parameters of each."""

    images: list[Image.Image]
    parameters: list[ImageParameters]


class ImagePipeline:
    """One loaded model and the engine that runs it. Subclasses say what kind of images it makes.

    Args:
        model: what `load_model` gives; several pipelines may share one.
        engine: one that already runs, to share it too; whoever made it closes it.
    """

    def __init__(self, model: LoadedModel, engine: Engine | None = None):
        self.model = model
        self._guest = engine is not None
        self.pipe = self._suitable(model.pipe)
        self.arguments = Arguments(self.pipe, model.name)
        budget = int(MEMORY_SHARE * model.device.free())
        self.engine = engine or Engine(Limits(memory=max(budget, 1)))
        self.attention = self._attach()

    def _attach(self) -> Attached | None:
        """Our attention on the model, where it has something to add to diffusers' own."""
        registry, device = default_registry(), self.model.device.torch
        dtype = next(next(iter(modules(self.pipe).values())).parameters()).dtype
        return attach(self.pipe, registry) if registry.outdoes_torch(device, dtype) else None

    @classmethod
    def load(
        cls, model: str | Path | DiffusionPipeline, *, device: str = "auto", dtype: str = "auto"
    ) -> Self:
        """Load an embedded model ("tiny-sd"), a diffusers folder, or take a diffusers pipeline.

        Args:
            device: "auto" (the fastest this machine has), "npu", "cuda" or "cpu".
            dtype: "auto" (what is fast there), "float32", "float16" or "bfloat16".

        Raises:
            ModelError: the model is missing, incomplete or not safe to load.
            RequestError: the device or dtype cannot be had.
        """
        return cls(load_model(model, device, dtype))

    @classmethod
    def _suitable(cls, pipe: DiffusionPipeline) -> DiffusionPipeline:
        """The pipeline for this kind of images that shares the loaded one's weights."""
        return pipe

    def complete(
        self, parameters: ImageParameters, picture: Image.Image | None = None
    ) -> ImageParameters:
        """The parameters with the size filled in: the picture's, else the model's own.

        Raises:
            RequestError: the size is not one that the model can draw.
        """
        return self.arguments.sized(parameters, picture.size if picture else None)

    def submit(
        self, parameters: ImageParameters, *, preview_every: int = 0, **pictures: Picture
    ) -> Request:
        """Ask for one image; its request's result is a PIL image.

        Args:
            parameters: what to draw.
            preview_every: emit a `Preview` after every so many steps; 0 for none.
            pictures: those this kind of pipeline takes, resized to the parameters' size.

        Raises:
            RequestError: the model's pipeline cannot do what the parameters ask.
            QueueFull: the engine has too many requests waiting.
        """
        opened = {name: read_picture(picture) for name, picture in pictures.items()}
        whole = self.complete(parameters, next(iter(opened.values()), None))
        assert whole.width and whole.height
        size = (whole.width, whole.height)
        given = self.arguments.of(whole)
        given |= {name: fit_picture(picture, size) for name, picture in opened.items()}
        if whole.scheduler is not None:
            self.arguments.scheduler(whole.scheduler)  # refused here, not on the engine's thread

        def body(request: Request) -> Image.Image:
            return self._draw(request, whole, given, preview_every)

        guided = whole.guidance is None or whole.guidance > 1
        need = Need(
            rows=2 if guided else 1,
            memory=self.arguments.memory(whole),
            solo=self.arguments.why_solo() is not None,
        )
        return self.engine.submit(body, need)

    def _draw(
        self,
        request: Request,
        parameters: ImageParameters,
        given: Mapping[str, Any],
        preview_every: int,
    ) -> Image.Image:
        """The body: the pipeline's own call, on the request's own copy of it."""
        heard: list[torch.Tensor] = []  # of a step that is several scheduler calls, the last counts
        for text in self.arguments.notices(parameters):
            request.emit(Notice(text))

        def on_step(step: int, total: int) -> None:
            request.emit(Step(step, total, request.seconds()))
            if preview_every and heard and step % preview_every == 0:
                self._preview(request, parameters, heard[0], step)

        def on_latents(latents: torch.Tensor) -> None:
            heard[:] = [latents]

        name = parameters.scheduler
        chosen = None if name is None else self.arguments.scheduler(name)
        mine: Any = own_copy(self.pipe, on_step, on_latents if preview_every else None, chosen)
        generator = torch.Generator("cpu").manual_seed(parameters.seed)
        return mine(**given, generator=generator, return_dict=False)[0][0]

    def _preview(
        self, request: Request, parameters: ImageParameters, latents: torch.Tensor, step: int
    ) -> None:
        assert parameters.width and parameters.height
        if self._latent_to_rgb is None:
            return
        picture = self._latent_to_rgb.picture(latents, parameters.width, parameters.height)
        if picture is not None:
            request.emit(Preview(step, picture))

    @cached_property
    def _latent_to_rgb(self) -> LatentToRGB | None:
        return fit(self.pipe)

    def _run(
        self, parameters: Sequence[ImageParameters], pictures: Sequence[Mapping[str, Picture]]
    ) -> ImageResult:
        """Submit all, wait for all; when one fails or the wait is interrupted, stop the rest."""
        requests: list[Request] = []
        try:
            for one, own in zip(parameters, pictures, strict=True):
                requests.append(self.submit(one, **own))  # pyright: ignore[reportArgumentType]
            return ImageResult([request.result() for request in requests], list(parameters))
        finally:
            for request in requests:
                if not request.ended:
                    request.cancel()

    def close(self) -> None:
        """Stop the engine and take everything off the model again; a guest leaves both as found."""
        if self.attention is not None:
            self.attention.remove()
        if not self._guest:
            self.engine.close()
            self.model.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def related(auto: Any, pipe: DiffusionPipeline, purpose: str) -> DiffusionPipeline:
    """The diffusers pipeline for another purpose that shares `pipe`'s weights.

    Raises:
        ModelError: diffusers has none for this pipeline class.
    """
    try:
        return auto.from_pipe(pipe)
    except ValueError as error:
        raise ModelError(f"{type(pipe).__name__} has no {purpose} form in diffusers") from error

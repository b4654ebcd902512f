"""What the image pipelines share: load, submit, wait; and the request body, one diffusers call."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import diffusers
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from mindsd.attention.for_diffusers import attach
from mindsd.engine import Engine, Limits
from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.loading import LoadedModel, load_model, modules
from mindsd.pipelines.own import own_copy
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.picture import Picture, fit_picture, read_picture
from mindsd.pipelines.preview import LatentToRGB, fit
from mindsd.request import Need, Preview, Request, Step

MEMORY_SHARE = 0.8  # of what is free when the model is loaded
DECODER_COPIES = 4  # full-size feature maps that are alive at once in an autoencoder's last level


@dataclass(frozen=True)
class ImageResult:
    """Images (PIL, RGB) in the order of the prompts, and the full parameters of each."""

    images: list[Image.Image]
    parameters: list[ImageParameters]


class ImagePipeline:
    """One loaded model and the engine that runs it. Subclasses say what kind of images it makes."""

    def __init__(self, model: LoadedModel, engine: Engine | None = None):
        self.model = model
        self.pipe = self._suitable(model.pipe)
        budget = int(MEMORY_SHARE * model.device.free())
        self.engine = engine or Engine(Limits(memory=max(budget, 1)))
        self.attention = attach(self.pipe)

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

    def submit(
        self,
        parameters: ImageParameters,
        *,
        preview_every: int = 0,
        **pictures: Picture,
    ) -> Request:
        """Ask for one image; its request's result is a PIL image.

        Args:
            parameters: what to draw.
            preview_every: emit a `Preview` after every so many steps; 0 for none.
            pictures: those this kind of pipeline takes, resized to the parameters' size.

        Raises:
            RequestError: the model's pipeline cannot do what the parameters ask.
        """
        opened = {name: read_picture(picture) for name, picture in pictures.items()}
        parameters = self.complete(parameters, next(iter(opened.values()), None))
        assert parameters.width and parameters.height
        size = (parameters.width, parameters.height)
        arguments = self._arguments(parameters)
        arguments |= {name: fit_picture(picture, size) for name, picture in opened.items()}

        def body(request: Request) -> Image.Image:
            return self._draw(request, parameters, dict(arguments), preview_every)

        return self.engine.submit(body, self._need(parameters))

    def complete(
        self, parameters: ImageParameters, picture: Image.Image | None = None
    ) -> ImageParameters:
        """The parameters with the size filled in: the picture's, else the model's own.

        Raises:
            RequestError: the size is not one that the model can draw.
        """
        width, height = parameters.width, parameters.height
        if width is None and height is None:
            width, height = picture.size if picture else (self.native_size,) * 2
        width, height = width or height, height or width
        assert width is not None and height is not None
        step = self.size_step
        if width % step or height % step:
            near = [max(step, round(side / step) * step) for side in (width, height)]
            raise RequestError(
                f"size {width}x{height} is not divisible by {step}, as {self.model.name} needs; "
                f"try {near[0]}x{near[1]}"
            )
        return replace(parameters, width=width, height=height)

    @cached_property
    def native_size(self) -> int:
        """Pixels of a side that the model was made for."""
        for name in ("unet", "transformer", "prior"):
            side = getattr(
                getattr(getattr(self.pipe, name, None), "config", None), "sample_size", 0
            )
            if isinstance(side, int) and side:
                return side * self._scale
        return 1024 if self._scale > 1 else 64

    @property
    def _scale(self) -> int:
        return int(getattr(self.pipe, "vae_scale_factor", 8))

    @property
    def size_step(self) -> int:
        """What width and height must be divisible by: latent cells, in pairs for patched models."""
        patched = getattr(self.pipe, "transformer", None) is not None
        return max(8, self._scale * (2 if patched else 1))

    @cached_property
    def _accepted(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(type(self.pipe).__call__).parameters

    def _arguments(self, parameters: ImageParameters) -> dict[str, Any]:
        """The pipeline's own arguments; what was left open stays the pipeline's choice."""
        asked = {
            "prompt": parameters.prompt,
            "negative_prompt": parameters.negative_prompt,
            "num_inference_steps": parameters.steps,
            "guidance_scale": parameters.guidance,
            "strength": parameters.strength,
        }
        if "true_cfg_scale" in self._accepted and "guidance_scale" not in self._accepted:
            asked["true_cfg_scale"] = asked.pop("guidance_scale")
        given = {name: value for name, value in asked.items() if value is not None}
        given |= parameters.options
        strange = sorted(set(given) - set(self._accepted))
        if strange:
            kind = type(self.pipe).__name__
            raise RequestError(f"{kind} does not take {', '.join(strange)}; leave it out")
        for name in ("width", "height"):
            if name in self._accepted:
                given.setdefault(name, getattr(parameters, name))
        if parameters.scheduler is not None:
            self._scheduler(parameters.scheduler)  # refused here, not on the engine's thread
        return given

    def _scheduler(self, name: str) -> Any:
        """A scheduler of this class with the model's own noise schedule."""
        current: Any = getattr(self.pipe, "scheduler", None)
        fitting = sorted(kind.__name__ for kind in getattr(current, "compatibles", []))
        if name not in fitting:
            raise RequestError(
                f"scheduler {name!r} does not fit {self.model.name}; choose one of {fitting}"
            )
        return getattr(diffusers, name).from_config(current.config)

    def _need(self, parameters: ImageParameters) -> Need:
        assert parameters.width and parameters.height
        part = next(iter(modules(self.pipe).values()))
        itemsize = next(part.parameters()).element_size()
        config = getattr(getattr(self.pipe, "vae", None), "config", {})
        channels = (config.get("block_out_channels") or [128])[0]
        pixels = parameters.width * parameters.height
        guided = parameters.guidance is None or parameters.guidance > 1
        return Need(2 if guided else 1, pixels * channels * itemsize * DECODER_COPIES)

    @cached_property
    def _latent_to_rgb(self) -> LatentToRGB | None:
        return fit(self.pipe)

    def _draw(
        self,
        request: Request,
        parameters: ImageParameters,
        arguments: dict[str, Any],
        preview_every: int,
    ) -> Image.Image:
        """The body: the pipeline's own call, on the request's own copy of it."""
        done = 0

        def on_step(step: int, total: int) -> None:
            nonlocal done
            done = step
            request.emit(Step(step, total, request.seconds()))

        def on_latents(latents: torch.Tensor) -> None:
            if (done + 1) % preview_every or self._latent_to_rgb is None:
                return
            assert parameters.width and parameters.height
            picture = self._latent_to_rgb.picture(latents, parameters.width, parameters.height)
            if picture is not None:
                request.emit(Preview(done + 1, picture))

        mine: Any = own_copy(self.pipe, on_step, on_latents if preview_every else None)
        if parameters.scheduler is not None:
            object.__setattr__(mine, "scheduler", self._scheduler(parameters.scheduler))
        generator = torch.Generator("cpu").manual_seed(parameters.seed)
        return mine(**arguments, generator=generator, return_dict=False)[0][0]

    def _run(
        self, parameters: Sequence[ImageParameters], pictures: Sequence[Mapping[str, Any]]
    ) -> ImageResult:
        """Submit all, wait for all; when one fails or the wait is interrupted, stop the rest."""
        requests: list[Request] = []
        try:
            for one, own in zip(parameters, pictures, strict=True):
                requests.append(self.submit(one, **own))
            images = [request.result() for request in requests]
            return ImageResult(images, list(parameters))
        finally:
            for request in requests:
                if not request.ended:
                    request.cancel()

    def close(self) -> None:
        """Stop the engine and take everything off the model again."""
        self.engine.close()
        self.attention.remove()
        self.model.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def several(
    prompts: str | Sequence[str], images_per_prompt: int, seed: int | None, **rest: Any
) -> list[ImageParameters]:
    """Parameters for every prompt and image; seeds count up from `seed` (drawn when None).

    Raises:
        RequestError: there is no prompt, or less than one image of each is asked for.
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not texts:
        raise RequestError("the list of prompts is empty; give at least one prompt")
    if images_per_prompt < 1:
        raise RequestError(f"images per prompt must be at least 1, got {images_per_prompt}")
    first = secrets.randbelow(2**32) if seed is None else seed
    repeated = [text for text in texts for _ in range(images_per_prompt)]
    return [ImageParameters(t, seed=first + i, **rest) for i, t in enumerate(repeated)]


def related(auto: Any, pipe: DiffusionPipeline, purpose: str) -> DiffusionPipeline:
    """The diffusers pipeline for another purpose that shares `pipe`'s weights.

    Raises:
        ModelError: diffusers has none for this pipeline class.
    """
    try:
        return auto.from_pipe(pipe)
    except ValueError as error:
        raise ModelError(f"{type(pipe).__name__} has no {purpose} form in diffusers") from error

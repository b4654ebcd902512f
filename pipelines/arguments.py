"""Parameters to the arguments of one model's own diffusers pipeline, and what it can be asked.

Pipelines differ in what they take and what they call it; anything a pipeline would ignore or
quietly change (a size it rounds, an argument it lacks) is refused by name instead.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from transformers import CLIPTokenizer

from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters

DECODER_COPIES = 4  # full-size feature maps alive at once in an autoencoder's last level (estimate)


# One request is one image with its own random numbers.
OURS = frozenset({"generator", "return_dict", "num_images_per_prompt"})


def _copied(value: Any) -> Any:
    """The containers anew, what they hold as it is."""
    if isinstance(value, dict):
        return {name: _copied(own) for name, own in value.items()}
    return [_copied(own) for own in value] if isinstance(value, list) else value


class Arguments:
    """What one pipeline takes."""

    def __init__(self, pipe: DiffusionPipeline, name: str):
        self.pipe: Any = pipe
        self.name = name
        self.accepted = inspect.signature(type(pipe).__call__).parameters

    def of(self, parameters: ImageParameters) -> dict[str, Any]:
        """Arguments for the pipeline's call; what was left open stays the pipeline's choice.

        Raises:
            RequestError: the pipeline does not take something that was asked.
        """
        asked = {
            "prompt": parameters.prompt,
            "negative_prompt": parameters.negative_prompt,
            "num_inference_steps": parameters.steps,
            self._guidance_name: parameters.guidance,
            "strength": parameters.strength,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        if fixed := sorted(OURS & set(parameters.options)):
            raise RequestError(
                f"options cannot set {', '.join(fixed)}: mindsd does; use its own parameters"
            )
        # A copy for this request: some pipelines write into the dictionaries they are given.
        given |= {name: _copied(value) for name, value in parameters.options.items()}
        if given.get("true_cfg_scale", 1) > 1:  # without a negative prompt it would be ignored
            given.setdefault("negative_prompt", " ")
        strange = sorted(set(given) - set(self.accepted))
        if strange:
            kind = type(self.pipe).__name__
            raise RequestError(f"{kind} does not take {', '.join(strange)}; leave it out")
        for name in ("width", "height"):
            if name in self.accepted:
                given.setdefault(name, getattr(parameters, name))
        return given

    @property
    def _guidance_name(self) -> str:
        """In Qwen-Image it is `true_cfg_scale`; `guidance_scale` there is for distilled models."""
        module = getattr(self.pipe, "transformer", None)
        distilled = getattr(getattr(module, "config", None), "guidance_embeds", None)
        if "true_cfg_scale" in self.accepted and distilled is False:
            return "true_cfg_scale"
        return "guidance_scale"

    def sized(self, parameters: ImageParameters, given: tuple[int, int] | None) -> ImageParameters:
        """The parameters with width and height filled in.

        Args:
            given: width and height of a picture that comes along; used before the model's own size.

        Raises:
            RequestError: the model cannot draw that size exactly.
        """
        width, height = parameters.width, parameters.height
        if width is None and height is None:
            width, height = given or (self.native_size,) * 2
        width, height = width or height, height or width
        assert width is not None and height is not None
        step = self.size_step
        if width % step or height % step:
            near = "x".join(str(max(step, round(side / step) * step)) for side in (width, height))
            raise RequestError(
                f"{self.name} draws sizes divisible by {step}, not {width}x{height}; try {near}"
            )
        return replace(parameters, width=width, height=height)

    @property
    def native_size(self) -> int:
        """Pixels of a side that the model was made for."""
        for part in ("unet", "transformer", "prior"):
            config = getattr(getattr(self.pipe, part, None), "config", None)
            side = getattr(config, "sample_size", None)
            if isinstance(side, int) and side:
                return side * self._scale
        return int(getattr(self.pipe, "default_sample_size", 128)) * self._scale

    @property
    def size_step(self) -> int:
        """What width and height must be divisible by: latent cells, in pairs for patched models."""
        if hasattr(self.pipe, "_pack_latents"):  # Flux and Qwen-Image pack 2x2 cells into a token
            return max(8, self._scale * 2)
        config = getattr(getattr(self.pipe, "transformer", None), "config", None)
        patch = getattr(config, "patch_size", None) or getattr(config, "all_patch_size", None) or 1
        return max(8, self._scale * (patch if isinstance(patch, int) else patch[-1]))

    @property
    def _scale(self) -> int:
        return int(getattr(self.pipe, "vae_scale_factor", 8))

    def why_solo(self) -> str | None:
        """Why this pipeline's requests cannot share forwards: it changes what they would share."""
        names = {name for kind in type(self.pipe).__mro__ for name in vars(kind)}
        code = [vars(kind).get("__call__") for kind in type(self.pipe).__mro__]
        said = {n for call in code if call for n in inspect.unwrap(call).__code__.co_names}
        vae: Any = getattr(self.pipe, "vae", None)
        if "_set_pag_attn_processor" in names or "set_attn_processor" in said:
            return "it exchanges attention processors while it draws"
        if getattr(getattr(vae, "config", None), "force_upcast", False):
            if next(vae.parameters()).dtype != torch.float32 and said & {"upcast_vae", "to"}:
                return "it moves its autoencoder between precisions while it draws"
        if any(getattr(part, "is_cache_enabled", False) for part in self.pipe.components.values()):
            return "a diffusers cache is enabled on it, which keeps no state per request"
        if getattr(self.pipe, "_all_hooks", None):
            return "it is offloaded by hooks"
        return None

    def notices(self, parameters: ImageParameters) -> list[str]:
        """What of the prompts the model will not read: CLIP cuts them at its own length."""
        readers = [part for name, part in self.pipe.components.items() if "tokenizer" in name]
        readers = [reader for reader in readers if reader is not None]
        if not readers or not all(isinstance(reader, CLIPTokenizer) for reader in readers):
            return []  # another encoder reads on where CLIP stops
        longest = max(reader.model_max_length for reader in readers)
        found = []
        for name in ("prompt", "negative_prompt"):
            tokens = len(readers[0](getattr(parameters, name) or "").input_ids)
            if tokens > longest:
                words = name.replace("_", " ")
                found.append(f"the {words} has {tokens} tokens, {self.name} reads only {longest}")
        return found

    def memory(self, parameters: ImageParameters) -> int:
        """Bytes of activations at the worst moment, the decoder's last level (an estimate)."""
        assert parameters.width and parameters.height
        vae = getattr(self.pipe, "vae", None)
        if vae is None:
            return 0
        channels = (getattr(vae.config, "block_out_channels", None) or [128])[0]
        itemsize = next(vae.parameters()).element_size()
        return parameters.width * parameters.height * channels * itemsize * DECODER_COPIES

    def scheduler(self, name: str) -> Any:
        """A scheduler of this class with the model's own noise schedule.

        Raises:
            RequestError: it does not fit the model's own scheduler.
        """
        own: Any = getattr(self.pipe, "scheduler", None)
        # diffusers also lists schedulers whose library is missing, as classes that only complain.
        kinds = [
            kind for kind in getattr(own, "compatibles", []) if issubclass(kind, SchedulerMixin)
        ]
        fitting = sorted(kind.__name__ for kind in kinds)
        if name not in fitting:
            raise RequestError(
                f"scheduler {name!r} does not fit {self.name}; choose one of {', '.join(fitting)}"
            )
        return getattr(diffusers, name).from_config(own.config)

"""What one `mindsd generate` asks for, checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mindsd.config import Acceleration, speed_named
from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters, parse_size, several
from mindsd.pipelines.picture import read_picture
from mindsd.pipelines.profile import Profile
from mindsd.weights.autoencoder import check_fits, find_autoencoder
from mindsd.weights.folder import find_model

from .device_options import IMAGE_LAYERS, check_words
from .picture_encoding import PictureEncoding
from .picture_record import Record
from .samplers import wished_scheduler

DRAW_SEED = -1  # what Automatic1111's users write for "any seed"


@dataclass(frozen=True)
class Order:
    """Images to draw, with one model. None leaves a choice to the model.

    Attributes:
        prompts: what to draw.
        images_per_prompt: how many of each.
        model: an embedded model's name or a diffusers folder.
        size: pixels as "512x384", or "512" for a square.
        seed: of the first image, the others count up; None or -1 for any.
        scheduler: a diffusers class or Automatic1111's name of a sampler, as in "DPM++ 2M Karras".
        image, mask: picture files; an image to draw anew, and where (white) to do so.
        strength: how much of the image is drawn anew.
        speed: an acceleration by name.
        profile: a file that `mindsd tune` wrote, in place of a speed.
        force: use the profile though it was tuned for another model, or draw again what another
            model of the same name drew.
        step_cache, token_merge, guidance_until: parts of an acceleration, in place of the speed's
            or the profile's.
        vae: folder of an autoencoder in place of the model's own.
        loras: folder of the adapters that prompts name, as <lora:ink:0.8>.
        weighted: whether prompts have weights, as (word:1.2); None where they look like it.
        preview_every: save a rough picture after every so many steps; 0 for none.
        format, quality, metadata: how files are written, as `PictureEncoding` says.
        repeats: the record whose parameters stand where nothing else is said.

    Raises:
        RequestError, ModelError: what is wrong, in one sentence.
    """

    prompts: tuple[str, ...]
    images_per_prompt: int = 1
    model: str = "tiny-sd"
    negative_prompt: str | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    size: str | None = None
    scheduler: str | None = None
    image: Path | None = None
    mask: Path | None = None
    strength: float | None = None
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "auto"
    layers: str = "auto"
    speed: str | None = None
    profile: Path | None = None
    force: bool = False
    step_cache: str | None = None
    token_merge: str | None = None
    guidance_until: float | None = None
    vae: Path | None = None
    loras: Path | None = None
    weighted: bool | None = None
    preview_every: int = 0
    format: str = "png"
    quality: int | None = None
    metadata: bool = True
    repeats: Record | None = None

    def __post_init__(self) -> None:
        self._check_prompts()
        if self.preview_every < 0:
            raise RequestError(f"--preview-every must be at least 0, got {self.preview_every}")
        self._check_pictures()
        if self.loras is not None and not self.loras.is_dir():
            raise RequestError(f"--loras {self.loras} is no folder; name the one of the files")
        if self.speed is not None and self.profile is not None:
            raise RequestError("say --speed or --profile, one of the two")
        if self.force and self.profile is None and self.repeats is None:
            raise RequestError("--force needs --profile or --from: what another model is used for")
        check_words(self.device, self.dtype, self.layers, IMAGE_LAYERS)
        model = find_model(self.model)
        if self.vae is not None:
            check_fits(find_autoencoder(self.vae), model)
        assert self.asked and self.encoding

    @property
    def pictures(self) -> dict[str, Path]:
        """The given picture files, by the names that the pipelines know them by."""
        given = {"image": self.image, "mask_image": self.mask}
        return {name: file for name, file in given.items() if file is not None}

    @property
    def acceleration(self) -> Acceleration:
        """The speed's, the profile's or the record's, with what is said one by one in its place."""
        told = self._pattern.acceleration.as_json()
        if self.speed is not None:
            told = speed_named(self.speed).as_json()
        if self.tuned is not None:
            told = self.tuned.acceleration.as_json()
        own = {
            "step_cache": self.step_cache,
            "token_merge": self.token_merge,
            "guidance_until": self.guidance_until,
        }
        return Acceleration.from_json(told | {k: v for k, v in own.items() if v is not None})

    @cached_property
    def tuned(self) -> Profile | None:
        """The profile; whether it is the model's own is seen when that is loaded."""
        return None if self.profile is None else Profile.read(self.profile)

    @cached_property
    def encoding(self) -> PictureEncoding:
        format = "jpeg" if self.format == "jpg" else self.format
        return PictureEncoding(format, self.quality, self.metadata)

    @cached_property
    def asked(self) -> list[ImageParameters]:
        """The parameters of every image; seeds that are left open are drawn once, here."""
        width, height = parse_size(self.size) if self.size is not None else (None, None)
        said = {
            "negative_prompt": self.negative_prompt,
            "steps": self.steps,
            "guidance": self.guidance,
            "width": width,
            "height": height,
            "strength": self.strength,
            "scheduler": None if self.scheduler is None else wished_scheduler(self.scheduler),
            "acceleration": self.acceleration,
        }
        given = {name: value for name, value in said.items() if value is not None}
        whole = replace(self._pattern, **given)
        seed = self._pattern.seed if self.seed is None and self.repeats is not None else self.seed
        each = several(
            self.prompts,
            images_per_prompt=self.images_per_prompt,
            seed=None if seed == DRAW_SEED else seed,
        )
        return [replace(whole, prompt=one.prompt, seed=one.seed) for one in each]

    @property
    def _pattern(self) -> ImageParameters:
        """What stands where nothing is said."""
        return ImageParameters("") if self.repeats is None else self.repeats.parameters

    def _check_prompts(self) -> None:
        if not self.prompts:
            raise RequestError('there is no prompt; say what to draw: mindsd generate "a fox"')
        for number, prompt in enumerate(self.prompts, 1):
            if not prompt.strip():
                raise RequestError(f"prompt {number} is empty; say what to draw")
            if not prompt.isprintable() and any("\ud800" <= sign <= "\udfff" for sign in prompt):
                raise RequestError(f"prompt {number} is not valid UTF-8 text")

    def _check_pictures(self) -> None:
        if self.image is None and self.mask is not None:
            raise RequestError("--mask needs --image: the picture that it is a mask of")
        if self.image is None and self.strength is not None:
            raise RequestError("--strength needs --image: the picture to draw anew")
        for file in self.pictures.values():
            read_picture(file)

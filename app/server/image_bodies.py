"""What may be asked of an image: OpenAI's fields, and ours beside them. One class for both doors.

Of OpenAI's fields `user` and `safety_identifier` are taken and not used. `quality` is how much of
the work is done: "low" is the speed "fast", "medium" is "balanced", everything else all of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from mindsd.config import SPEEDS, Acceleration, speed_named
from mindsd.pipelines.lora_tags import read_lora_tags
from mindsd.pipelines.parameters import (
    MAX_LORA_WEIGHT,
    MAX_LORAS,
    MAX_SEED,
    MAX_STEPS,
    ImageParameters,
    parse_size,
    several,
)
from mindsd.stepcache.plan import StepCache
from mindsd.tokenmerge.plan import TokenMerge

from ..picture_encoding import PictureEncoding
from ..samplers import wished_scheduler
from ..typed_prompt import untagged
from .bodies import Body, ModelId, Priority, Seconds

MAX_IMAGES = 10  # of one request, as OpenAI has it
MAX_SIDE = 4096  # pixels
MAX_GUIDANCE = 100
AUTO = "auto"
SIZE = r"^(auto|[1-9][0-9]{0,3}x[1-9][0-9]{0,3})$"
SPEED_OF = {"low": "fast", "medium": "balanced"}  # of a quality; the others are lossless

Prompt = Annotated[str, Field(max_length=10_000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=-MAX_LORA_WEIGHT, le=MAX_LORA_WEIGHT)]
Quality = Literal["auto", "standard", "low", "medium", "high", "hd", "xhigh", "max"]


class ImageBody(Body):
    """What one call asks for. None is what was left out."""

    prompt: Prompt = Field(description="what to draw")
    model: ModelId | None = Field(None, description="by default an image model that is loaded")
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None = None
    size: str | None = Field(
        None,
        pattern=SIZE,
        description=f"WIDTHxHEIGHT in pixels, at most {MAX_SIDE} each; auto is the model's own, "
        "and of an edit the picture's",
    )
    quality: Quality | None = Field(None, description="low and medium do less work, as a speed")
    response_format: Literal["b64_json"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = Field(
        None, description="rough pictures on the way, in a stream"
    )
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = Field(
        None, description="the quality of a jpeg or webp: 100 is the best"
    )
    background: Literal["auto", "opaque"] | None = None
    moderation: Literal["auto"] | None = Field(None, description="nothing is moderated")
    style: Literal["auto"] | None = None
    user: Annotated[str, Field(max_length=256)] | None = Field(None, description="not used")
    safety_identifier: Annotated[str, Field(max_length=256)] | None = Field(
        None, description="not used"
    )
    negative_prompt: Prompt | None = Field(None, description="what to stay away from")
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None
    guidance: Annotated[float, Field(ge=0, le=MAX_GUIDANCE)] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(
        None, description="of the first image, the others count up; random by default"
    )
    scheduler: Name | None = Field(None, description="of diffusers, or A1111's name of a sampler")
    speed: Name | None = Field(
        None, description=f"{', '.join(SPEEDS)}, or the id of a profile that the server has"
    )
    step_cache: Name | None = Field(None, description="like skip:2")
    token_merge: Name | None = Field(None, description="like 0.4")
    guidance_until: Share | None = None
    loras: Annotated[dict[ModelId, Weight], Field(max_length=MAX_LORAS)] | None = Field(
        None, description="ids of adapters, and how strong each is"
    )
    weighted: bool | None = Field(None, description="prompts are in A1111's form: (word:1.2)")
    metadata: bool | None = Field(None, description="false leaves out how the image was made")
    priority: Priority | None = Field(None, description="higher goes first")
    timeout: Seconds | None = Field(None, description="seconds, waiting included")

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not read_lora_tags(value)[0].strip():
            raise ValueError("there is no prompt; say what to draw")
        return value

    @field_validator("response_format", mode="before")
    @classmethod
    def _is_kept_nowhere(cls, value: Any) -> Any:
        if value == "url":
            raise ValueError("images are kept nowhere to be fetched from; take b64_json")
        return value

    @field_validator("size")
    @classmethod
    def _is_drawn(cls, value: str | None) -> str | None:
        if value not in (None, AUTO) and max(parse_size(value)) > MAX_SIDE:
            raise ValueError(f"a side has at most {MAX_SIDE} pixels")
        return value

    @field_validator("partial_images")
    @classmethod
    def _is_streamed(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("stream"):
            raise ValueError("only a stream shows images on the way; say stream as well")
        return value

    @field_validator("output_compression")
    @classmethod
    def _loses_nothing(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value not in (None, 100) and info.data.get("output_format") in (None, "png"):
            raise ValueError("a png loses nothing; say output_format jpeg or webp, or leave it out")
        return value

    @field_validator("speed")
    @classmethod
    def _is_said_once(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("quality") not in (None, AUTO, "standard"):
            raise ValueError("a quality is a speed by OpenAI's name; say one of the two")
        return value

    @field_validator("scheduler")
    @classmethod
    def _is_a_scheduler(cls, value: str | None) -> str | None:
        return None if value is None else wished_scheduler(value)

    @field_validator("step_cache")
    @classmethod
    def _is_a_cache(cls, value: str | None) -> str | None:
        return None if value is None else str(StepCache.parse(value))

    @field_validator("token_merge")
    @classmethod
    def _is_a_merge(cls, value: str | None) -> str | None:
        return None if value is None else str(TokenMerge.parse(value))

    @property
    def profile(self) -> str | None:
        """The id of the profile that the speed names; None where it is one of ours."""
        return None if self.speed is None or self.speed in SPEEDS else self.speed

    def over(self, tuned: Acceleration) -> Acceleration:
        """An acceleration with what is said one by one in its place."""
        names = ("step_cache", "token_merge", "guidance_until")
        own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return Acceleration.from_json(tuned.as_json() | own)

    @property
    def acceleration(self) -> Acceleration:
        """The speed's or the quality's, else plain: a profile's is known with its model only."""
        by_quality = SPEED_OF.get(self.quality or AUTO, "lossless")
        return self.over(speed_named(self.speed if self.speed in SPEEDS else by_quality))

    @property
    def encoding(self) -> PictureEncoding:
        """Of the finished images."""
        format = self.output_format or "png"
        quality = self.output_compression
        if format == "png" or quality is None:
            return PictureEncoding(format, None, self.metadata is not False)
        return PictureEncoding(format, max(1, quality), self.metadata is not False)

    def asked(self) -> list[ImageParameters]:
        """The parameters of every image; a seed that is left open is drawn here, and tags of the
        prompt are LoRAs.

        Raises:
            RequestError: they cannot be, together.
        """
        width, height = (None, None) if self.size in (None, AUTO) else parse_size(self.size)
        said = {
            "negative_prompt": self.negative_prompt,
            "steps": self.steps,
            "guidance": self.guidance,
            "seed": self.seed,
            "width": width,
            "height": height,
            "strength": self._strength,
            "scheduler": self.scheduler,
            "acceleration": self.acceleration,
            "loras": self.loras,
            "weighted": self.weighted,
            "images_per_prompt": self.n,
        }
        given: Any = {name: value for name, value in said.items() if value is not None}
        return [untagged(one) for one in several(self.prompt, **given)]

    @property
    def _strength(self) -> float | None:
        return None


class EditBody(ImageBody):
    """The same of a picture that is given."""

    strength: Share | None = Field(None, description="how much of the picture is drawn anew")

    @property
    def _strength(self) -> float | None:
        return self.strength

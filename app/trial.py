"""What one `mindsd tune` or `mindsd bench` asks for, checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mindsd.errors import RequestError
from mindsd.pipelines.bound import Bound
from mindsd.pipelines.parameters import ImageParameters, parse_size
from mindsd.weights.embedded import embedded
from mindsd.weights.folder import find_model

from .device_options import IMAGE_LAYERS, check_words
from .samplers import wished_scheduler

READABLE = (128, 128)  # pixels of the scenes that the checker reads
MOST_IMAGES = 10_000


@dataclass(frozen=True)
class Trial:
    """A model, how it draws, and what it is judged on. None leaves a choice to the model.

    Attributes:
        bound: what an acceleration may cost, as `Bound.parse` reads it; None for a mere bench.
        prompts: a file with one prompt on each line; None for our own.
        images: that quality is judged on.
        batch: images drawn at once.
        rounds: how often time is taken.

    Raises:
        RequestError, ModelError: what is wrong, in one sentence.
    """

    model: str = "tiny-sd"
    bound: str | None = None
    prompts: Path | None = None
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None
    size: str | None = None
    images: int = 16
    batch: int = 4
    rounds: int = 3
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "auto"
    layers: str = "auto"

    def __post_init__(self) -> None:
        numbers = {"--images": self.images, "--batch": self.batch, "--rounds": self.rounds}
        for flag, number in numbers.items():
            if not 1 <= number <= MOST_IMAGES:
                raise RequestError(f"{flag} must be 1 to {MOST_IMAGES}, got {number}")
        check_words(self.device, self.dtype, self.layers, IMAGE_LAYERS)
        find_model(self.model)
        assert self.pattern and self.texts != []
        if self.limits is not None and "right" in self.limits.metrics and not self.reads:
            raise RequestError(
                "a bound on right needs images that can be read back: those of an embedded model "
                "at its own size and with our own prompts; bound ssim or psnr instead"
            )

    @cached_property
    def limits(self) -> Bound | None:
        return None if self.bound is None else Bound.parse(self.bound)

    @cached_property
    def pattern(self) -> ImageParameters:
        """Everything of an image but its prompt and seed."""
        width, height = parse_size(self.size) if self.size is not None else (None, None)
        return ImageParameters(
            "",
            steps=self.steps,
            guidance=self.guidance,
            scheduler=None if self.scheduler is None else wished_scheduler(self.scheduler),
            width=width,
            height=height,
        )

    @cached_property
    def texts(self) -> list[str] | None:
        """The prompts of the file; None without one."""
        if self.prompts is None:
            return None
        try:
            lines = self.prompts.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise RequestError(
                f"prompts {self.prompts} cannot be read ({error.strerror})"
            ) from None
        except UnicodeDecodeError:
            raise RequestError(f"prompts {self.prompts} are not valid UTF-8 text") from None
        found = [line.strip() for line in lines if line.strip()]
        if not found:
            raise RequestError(f"{self.prompts} holds no prompts; write one on each line")
        return found

    @property
    def reads(self) -> bool:
        """Whether a checker can read the images back."""
        size = (self.pattern.width, self.pattern.height)
        return (
            self.model in embedded() and self.prompts is None and size in (READABLE, (None, None))
        )

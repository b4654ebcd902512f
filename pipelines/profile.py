"""A tuned acceleration as a file: for which model, found how, and what it measured.

Loads no torch: faces read profiles before they load a model.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mindsd.config import Acceleration
from mindsd.errors import OutputError, RequestError
from mindsd.pipelines.strict_json import check_fields, load_json

FORMAT, VERSION = "mindsd profile", 1


@dataclass(frozen=True)
class Measured:
    """On images that the search never saw.

    Attributes:
        images: that the quality was judged on.
        seconds_plain, seconds: for one image, medians of the rounds.
        speedup_least, speedup, speedup_most: plain to tuned, of the rounds; the middle is a median.
        psnr, ssim: means over the images; p10 is what nine of ten reach.
        right, right_plain: share of images that show all that the prompt says; None where nobody
            can tell.
    """

    images: int
    seconds_plain: float
    seconds: float
    speedup_least: float
    speedup: float
    speedup_most: float
    psnr: float
    psnr_p10: float
    ssim: float
    ssim_p10: float
    right: float | None
    right_plain: float | None


@dataclass(frozen=True)
class Profile:
    """One tuning's result.

    Attributes:
        model, fingerprint: its name, and what tells it from others.
        device, machine, dtype: where it was tuned.
        steps, guidance, scheduler, width, height, batch: how the images were drawn; None where the
            model has no such thing.
        bound: that it holds.
        versions: of mindsd, torch and diffusers.
        date: in ISO form.
    """

    model: str
    fingerprint: str
    device: str
    machine: str
    dtype: str
    steps: int
    guidance: float | None
    scheduler: str | None
    width: int
    height: int
    batch: int
    bound: str
    acceleration: Acceleration
    measured: Measured
    versions: dict[str, str]
    date: str

    def acceleration_for(self, fingerprint: str, *, force: bool = False) -> Acceleration:
        """The acceleration, for the model with this fingerprint.

        Raises:
            RequestError: it was tuned for another, and `force` does not say to use it all the same.
        """
        if fingerprint != self.fingerprint and not force:
            raise RequestError(
                f"the profile was tuned for {self.model} ({self.fingerprint}), and this model is "
                f"another ({fingerprint}); tune this one, or use it all the same with --force"
            )
        return self.acceleration

    def elsewhere(self, **now: Any) -> list[str]:
        """What is not as when it was tuned, as in "steps 24, now 50".

        Args:
            now: fields by name; None is not compared.
        """
        pairs = ((name, getattr(self, name), value) for name, value in now.items())
        return [f"{n} {old}, now {new}" for n, old, new in pairs if new is not None and new != old]

    def write(self, path: str | Path) -> None:
        """Write it in place of what was there, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        told = {"format": FORMAT, "version": VERSION, **asdict(self)}
        told["acceleration"] = self.acceleration.as_json()
        _replace(Path(path), json.dumps(told, indent=2, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Profile:
        """Read a profile.

        Raises:
            RequestError: there is none, or it is not what `write` writes.
        """
        told = load_json(Path(path))
        if told.pop("format", None) != FORMAT:
            raise RequestError(f"{path} is no profile of mindsd; mindsd tune writes them")
        if (version := told.pop("version", None)) != VERSION:
            raise RequestError(
                f"the profile {path} has version {version!r}, and this mindsd reads {VERSION}; "
                "tune again"
            )
        try:
            check_fields(cls, told)
            check_fields(Measured, told["measured"])
            acceleration = Acceleration.from_json(told["acceleration"])
        except RequestError as error:
            raise RequestError(f"the profile {path} is broken: {error}") from None
        measured = Measured(**told["measured"])
        return cls(**{**told, "measured": measured, "acceleration": acceleration})


def check_place(path: Path) -> None:
    """See that a profile can be written there, before all the work for it.

    Raises:
        OutputError: it cannot, or something that is no profile is there.
    """
    try:
        if path.exists() and load_json(path).get("format") != FORMAT:
            raise RequestError(f"{path} is no profile")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except RequestError as error:
        raise OutputError(f"{error}, and would be lost; choose another with -o") from None
    except OSError as error:
        raise OutputError(
            f"the profile {path} cannot be written ({error.strerror}); choose another with -o"
        ) from None


def _replace(path: Path, text: str) -> None:
    """The text whole in this file, or the file as it was."""
    part = path.with_name(f".mindsd-{uuid.uuid4().hex}.part")
    try:
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"the profile {path} cannot be written ({error.strerror})") from error

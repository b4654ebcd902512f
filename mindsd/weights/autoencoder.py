"""An autoencoder in a folder of its own, to decode in the place of a model's.

It is seen by its configuration, before any weight is read: safe, of a class that diffusers'
pipelines take as it is, and of latents like those that the model draws. Whether both were trained
on the same latents no file says: Stable Diffusion 1.5 and XL have latents of one shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindsd.errors import ModelError
from mindsd.weights.folder import INDEX, ModelFolder
from mindsd.weights.safe import check_files, read_object

CONFIG = "config.json"
# What diffusers takes where a configuration does not say it.
DEFAULTS: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {"latent_channels": 4, "block_out_channels": [64]},
    "AutoencoderTiny": {
        "latent_channels": 4,
        "encoder_block_out_channels": [64] * 4,
        "decoder_block_out_channels": [64] * 4,
        "upsampling_scaling_factor": 2,
        "shift_factor": 0.0,
    },
}
CENTRES = ("shift_factor", "latents_mean", "latents_std")  # what pipelines add, and multiply by


@dataclass(frozen=True)
class AutoencoderFolder:
    """A folder of an autoencoder that passed every check.

    Attributes:
        name: the folder's.
        path: where it lies.
        kind: its class in diffusers.
        config: what its configuration says, and what diffusers takes where it says nothing.
    """

    name: str
    path: Path
    kind: str
    config: Mapping[str, Any]

    @property
    def channels(self) -> int:
        """Of a latent cell."""
        return self._whole("latent_channels", self.config["latent_channels"])

    @property
    def compression(self) -> int:
        """Pixels of a latent cell's side."""
        if self.kind == "AutoencoderKL":
            return 2 ** (self._levels("block_out_channels") - 1)
        told = self.config["upsampling_scaling_factor"]
        factor = self._whole("upsampling_scaling_factor", told)
        decoded = factor ** (self._levels("decoder_block_out_channels") - 1)
        encoded = 2 ** (self._levels("encoder_block_out_channels") - 1)
        if decoded != encoded:
            raise ModelError(
                f"{self.path} makes cells of {encoded}x{encoded} pixels and {decoded}x{decoded} "
                "pixels of a cell; take one of the same size both ways"
            )
        return decoded

    def _levels(self, name: str) -> int:
        widths = self.config[name]
        if not isinstance(widths, list) or not 1 <= len(widths) <= 16:
            raise ModelError(f"{self.path / CONFIG}: {name} lists widths of levels, got {widths!r}")
        return len(widths)

    def _whole(self, name: str, value: Any) -> int:
        if type(value) is not int or not 1 <= value <= 4096:
            raise ModelError(f"{self.path / CONFIG}: {name} is a whole number, got {value!r}")
        return value


def find_autoencoder(path: str | Path) -> AutoencoderFolder:
    """The autoencoder at this path.

    Raises:
        ModelError: there is none, or the folder is incomplete, not safe to load, or of a class that
            does not stand in another's place.
    """
    folder = Path(path)
    needed = f"{CONFIG} and diffusion_pytorch_model.safetensors"
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder; an autoencoder is one that holds {needed}")
    if (folder / INDEX).is_file():
        own = folder / "vae"
        hint = f"name its autoencoder: {own}" if own.is_dir() else "it holds no autoencoder"
        raise ModelError(f"{folder} is a whole model; {hint}")
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder} has no {CONFIG}; an autoencoder's folder holds {needed}")
    check_files(folder)
    config = read_object(folder / CONFIG)
    kind = str(config.get("_class_name"))
    if kind not in DEFAULTS:
        known = " and ".join(DEFAULTS)
        raise ModelError(f"{folder} holds a {kind}; {known} stand in an autoencoder's place")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} has no .safetensors weights for {kind}; copy the folder again")
    found = AutoencoderFolder(folder.resolve().name, folder, kind, DEFAULTS[kind] | config)
    assert found.channels and found.compression
    return found


def check_fits(found: AutoencoderFolder, model: ModelFolder) -> None:
    """See that it decodes latents of the shape that a model draws.

    Raises:
        ModelError: it does not, or the model has no autoencoder that it could stand for.
    """
    if "vae" not in model.components:
        raise ModelError(f"{model.name} has no autoencoder (vae) that {found.name} could stand for")
    kind = model.components["vae"][1]
    if kind not in DEFAULTS:
        raise ModelError(
            f"{model.name} decodes with its own kind, {kind}; "
            f"{found.name}, a {found.kind}, cannot stand for it"
        )
    path = model.path / "vae"
    own = AutoencoderFolder("", path, kind, DEFAULTS[kind] | read_object(path / CONFIG))
    sizes = {
        "latent channels": (found.channels, own.channels),
        "pixels a side of a latent cell": (found.compression, own.compression),
        "channels of a pixel": tuple(one.config.get("out_channels", 3) for one in (found, own)),
    }
    for name, (has, needs) in sizes.items():
        if has != needs:
            raise ModelError(
                f"the autoencoder {found.name} has {has} {name}, {model.name} needs {needs}; "
                "take one that was made for this model"
            )
    for name in CENTRES:
        if own.config.get(name) is not None and found.config.get(name) is None:
            raise ModelError(
                f"{model.name} draws latents that are centred by {name}, which {found.path} does "
                "not say; take one that was made for this model"
            )

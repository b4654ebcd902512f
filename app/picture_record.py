"""How a picture was made, as its file says it: in Automatic1111's words and, complete, in our own.

The first is the text of a1111.py. The second is JSON:

    {"parameters": {every field of ImageParameters}, "model": "tiny-sd", "device": "cpu",
     "dtype": "float32", "attention": "auto", "layers": "auto",
     "fingerprint": "0123456789abcdef", "vae": "taesd", "vae_fingerprint": "fedcba9876543210",
     "pictures": {"image": "sha256 of its file"},
     "versions": {"mindsd": "0.1.0", "torch": "2.13.0", "diffusers": "0.42.1"}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mindsd.config import Acceleration
from mindsd.pipelines.parameters import ImageParameters

from .a1111 import read_text, write_text
from .picture_texts import PictureTexts, read_texts

FIELDS = [own.name for own in fields(ImageParameters)]
PLACES = (
    *("model", "device", "dtype", "attention", "layers"),
    *("fingerprint", "vae", "vae_fingerprint"),
)


@dataclass(frozen=True)
class Record:
    """How a picture was made: its parameters, and by what. Empty is what is not known.

    Attributes:
        model: the name of an embedded model or of a folder; a path is nobody else's business.
        fingerprint: of the model's weights, as pipelines/fingerprint.py tells it.
        vae, vae_fingerprint: the same of an autoencoder in place of the model's own.
        pictures: of the given pictures, by the pipelines' names ("image", "mask_image"), the
            SHA-256 of their files.
        unknown: what Automatic1111's text says beyond the parameters, in its words.
    """

    parameters: ImageParameters
    model: str = ""
    device: str = ""
    dtype: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    attention: str = ""
    fingerprint: str = ""
    pictures: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    layers: str = ""
    vae: str = ""
    vae_fingerprint: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values; what has no words in JSON as `str` gives it."""
        less = {"acceleration": self.parameters.acceleration.as_json()}
        told = json.loads(json.dumps(asdict(self.parameters) | less, default=str))
        places = {name: getattr(self, name) for name in PLACES}
        more = {"pictures": dict(self.pictures), "versions": dict(self.versions)}
        return {"parameters": told, **places, **more}

    def as_texts(self) -> PictureTexts:
        version = f"mindsd {self.versions.get('mindsd', '')}".strip()
        theirs = write_text(self.parameters, self.model, version, self.vae)
        return PictureTexts(theirs, json.dumps(self.as_json()))


def read_record(file: str | Path) -> Record | None:
    """How a picture file says it was made: in our own words, else Automatic1111's, else None.

    Texts that make no sense count as absent, for anyone may write anything into a file.

    Raises:
        RequestError: the file cannot be opened as a picture.
    """
    texts = read_texts(file)
    return _read_ours(texts.ours) or _read_theirs(texts.theirs)


def _read_ours(text: str | None) -> Record | None:
    try:
        content = json.loads(text or "")
        told = {k: v for k, v in dict(content["parameters"]).items() if k in FIELDS}
        told["acceleration"] = Acceleration.from_json(told.get("acceleration", {}))
        places: dict[str, Any] = {name: str(content.get(name, "")) for name in PLACES}
        return Record(
            ImageParameters(**told),
            versions=_words(content["versions"]),
            pictures=_words(content.get("pictures", {})),
            **places,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _words(told: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in dict(told).items()}


def _read_theirs(text: str | None) -> Record | None:
    try:
        parameters, model, unknown = read_text(text or "")
    except ValueError:
        return None
    return Record(parameters, model, unknown=unknown) if text else None

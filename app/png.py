"""PNG files that say how they were made: in Automatic1111's words and, complete, in our own.

Chunk `parameters` is the text of a1111.py. Chunk `mindsd` is JSON:

    {"parameters": {every field of ImageParameters}, "model": "tiny-sd", "device": "cpu",
     "dtype": "float32", "versions": {"mindsd": "0.1.0", "torch": "2.13.0", "diffusers": "0.42.1"}}
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mindsd.config import Acceleration
from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters

from .a1111 import read_text, write_text

THEIRS, OURS = "parameters", "mindsd"
FIELDS = [entry.name for entry in fields(ImageParameters)]


@dataclass(frozen=True)
class Record:
    """How a picture was made: its parameters, and by what."""

    parameters: ImageParameters
    model: str = ""
    device: str = ""
    dtype: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def encode(picture: Image.Image, record: Record | None = None) -> bytes:
    """The bytes of a PNG file, with the record in it."""
    info = PngInfo()
    if record is not None:
        version = f"mindsd {record.versions.get('mindsd', '')}".strip()
        # add_text keeps Latin-1 as tEXt and turns to iTXt, which is UTF-8, for everything else.
        info.add_text(THEIRS, write_text(record.parameters, record.model, version))
        told = asdict(record)
        told["parameters"]["acceleration"] = record.parameters.acceleration.as_json()
        info.add_text(OURS, json.dumps(told, default=str))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def read_record(file: str | Path) -> Record | None:
    """How a PNG file says it was made: by our own chunk, else by Automatic1111's, else None.

    Chunks that make no sense count as absent, for anyone may write anything into a file.

    Raises:
        RequestError: the file cannot be opened as a picture.
    """
    try:
        with Image.open(file) as picture:
            told = picture.info
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RequestError(f"{file} cannot be read as a picture ({error})") from None
    return _read_ours(told.get(OURS)) or _read_theirs(told.get(THEIRS))


def _read_ours(text: object) -> Record | None:
    if not isinstance(text, str):
        return None
    try:
        content = json.loads(text)
        known = {
            name: content["parameters"][name] for name in FIELDS if name in content["parameters"]
        }
        known["acceleration"] = Acceleration.from_json(known.get("acceleration", {}))
        told = {name: str(content.get(name, "")) for name in ("model", "device", "dtype")}
        versions = {str(name): str(value) for name, value in dict(content["versions"]).items()}
        return Record(ImageParameters(**known), versions=versions, **told)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _read_theirs(text: object) -> Record | None:
    try:
        return Record(*read_text(text)) if isinstance(text, str) else None
    except ValueError:
        return None

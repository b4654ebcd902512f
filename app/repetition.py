"""A picture drawn again as its file says it was made, and why it may come out otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import file_digest
from pathlib import Path
from typing import Any

from mindsd.errors import RequestError
from mindsd.weights.embedded import embedded

from .picture_record import Record, read_record
from .printable import printable

FLAGS = {"image": "image", "mask_image": "mask"}  # the pipelines' names of pictures -> an Order's
# What is known by a name and the fingerprint of its weights: a noun, and the fields of a record.
KINDS = (("model", "model", "fingerprint"), ("autoencoder", "vae", "vae_fingerprint"))
OWN = "of the model"  # the autoencoder, where no other stood in its place


def repeat(file: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an `Order` that draws a picture again; what is said stands in place of its record.

    Raises:
        RequestError: the file does not say how it was made, or not with what model, or it was drawn
            from a picture, or by an autoencoder in place of its model's own, that is not given.
    """
    record = read_record(file)
    if record is None:
        raise RequestError(f"{file} does not say how it was made, so --from cannot repeat it")
    _check_pictures(file, record, said)
    _check_autoencoder(file, record, said)
    found: dict[str, Any] = {"prompts": (record.parameters.prompt,)}
    if "model" not in said:
        found["model"] = _model(file, record)
    if said.get("device", record.device) == record.device:
        names = ("device", "dtype", "attention", "layers")
        found |= {name: getattr(record, name) for name in names if getattr(record, name)}
    return found | dict(said) | {"repeats": record}


def file_hash(file: Path) -> str:
    """SHA-256 of what a file holds, in hexadecimal."""
    with open(file, "rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def differences(record: Record, now: Record, force: bool) -> list[str]:
    """What is not as when the record was made, and what of it has no word here.

    Raises:
        RequestError: another model or autoencoder of the same name drew it, and `force` is not
            said.
    """
    told = [printable(change) for change in _changes(record, now)]
    for noun, flag, weighed in KINDS:
        name, before, after = getattr(now, flag), getattr(record, weighed), getattr(now, weighed)
        if getattr(record, flag) != name or not _differ(before, after):
            continue
        weights = f"weights {printable(before)}, now {after}"
        if not force:
            raise RequestError(
                f"the image was drawn by another {noun} of the name {name} ({weights}); "
                f"say its folder with --{flag}, or --force to use this one"
            )
        told.append(weights)
    return told


def _changes(record: Record, now: Record) -> Iterator[str]:
    for name in ("model", "device", "dtype"):
        before, after = getattr(record, name), getattr(now, name)
        if _differ(before, after):
            yield f"{name} {before}, now {after}"
    if record.versions and record.vae != now.vae:
        yield f"autoencoder {record.vae or OWN}, now {now.vae or OWN}"
    for name, before in record.versions.items():
        after = now.versions.get(name, "")
        if _differ(before, after):
            yield f"{name} {before}, now {after}"
    for name, before in record.pictures.items():
        if before != now.pictures.get(name):
            yield f"another picture is given with --{FLAGS.get(name, name)}"
    if record.unknown:
        yield f"it leaves out {', '.join(f'{k}: {v}' for k, v in record.unknown.items())}"


def _differ(before: str, after: str) -> bool:
    return bool(before and after and before != after)


def _check_pictures(file: Path, record: Record, said: Mapping[str, Any]) -> None:
    needed = {FLAGS[name]: known for name, known in record.pictures.items() if name in FLAGS}
    if record.parameters.strength is not None:
        needed.setdefault("image", "")
    for flag, known in needed.items():
        if flag not in said:
            which = f" of SHA-256 {printable(known)}" if known else ""
            raise RequestError(
                f"{file} was drawn from a picture{which}, which it does not hold; "
                f"give it with --{flag}"
            )


def _check_autoencoder(file: Path, record: Record, said: Mapping[str, Any]) -> None:
    if record.vae and said.get("vae") is None and not said.get("force"):
        raise RequestError(
            f"{file} was drawn by the autoencoder {printable(record.vae)}, which it only names; "
            "give its folder with --vae, or --force to use the model's own"
        )


def _model(file: Path, record: Record) -> str:
    if record.model in embedded():
        return record.model
    name = printable(record.model)
    by = f"by {name}, which is not embedded" if name else "by an unknown model"
    raise RequestError(f"{file} was drawn {by}; say where the model's folder is with --model")

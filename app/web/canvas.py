"""The picture that is drawn anew, and what is painted over it.

Gradio's editor decodes what is sent by whatever decoder fits, of any size. Here it hands out bytes,
and the server's own reading of uploads decides.
"""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components.image_editor import Brush, EditorData, EditorDataBlobs, Eraser
from PIL import Image

from ..server.refusal import about
from ..server.uploads import FORMATS, read_upload

# Coloured and seen through: white on white could not be seen (and every colour means the same).
PAINT = "rgba(225, 29, 72, 0.55)"
HEIGHT = 380


def make_canvas() -> gr.ImageEditor:
    """The editor; handlers get {"background": bytes or None, "layers": [bytes, ...]} of it."""
    editor = gr.ImageEditor(
        label="Picture to start from",
        sources=("upload", "clipboard"),
        type="filepath",
        transforms=(),
        layers=False,
        format="png",
        height=HEIGHT,
        buttons=["fullscreen"],
        brush=Brush(colors=[PAINT], default_color=PAINT, color_mode="fixed", default_size=24),
        eraser=Eraser(default_size=24),
        elem_id="canvas",
    )
    # Not a subclass: Gradio writes a file beside the source of every class of components.
    editor.preprocess = partial(_sent, editor)  # pyright: ignore[reportAttributeAccessIssue]
    return editor


def files_of(value: dict[str, Any] | None) -> dict[str, bytes]:
    """The files that `ImageTask` takes: the picture and, where something is painted, the mask.

    Decodes what is painted: belongs on a thread.

    Raises:
        Refusal: it cannot be read.
    """
    if not value or value["background"] is None:
        return {}
    picture = value["background"]
    painted = [own for layer in value["layers"] if (own := _painted(layer)) is not None]
    if not painted:
        return {"image": picture}
    with about("image"):
        size = read_upload(picture).size
    mask = Image.new("L", size, 0)
    for own in painted:
        mask.paste(255, mask=own.resize(size, Image.Resampling.NEAREST))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return {"image": picture, "mask_image": buffer.getvalue()}


def _sent(editor: gr.ImageEditor, payload: EditorData | None) -> dict[str, Any] | None:
    """What the browser sent: by itself before (an id), or as files that it sent."""
    if payload is None:
        return None
    sent: EditorData | EditorDataBlobs | None = payload
    if payload.id is not None:
        sent = editor.blob_storage.pop(payload.id, None)
    if sent is None:
        return None
    layers = [_bytes(layer) for layer in sent.layers or ()]
    return {"background": _bytes(sent.background), "layers": [own for own in layers if own]}


def _painted(layer: bytes) -> Image.Image | None:
    """White where anything is painted (L); None where nothing is."""
    with about("mask"):
        read_upload(layer)  # knows what is safe to open
    with Image.open(io.BytesIO(layer), formats=FORMATS) as opened:
        alpha = opened.convert("RGBA").getchannel("A")
    mask = alpha.point([0] * 8 + [255] * 248)
    return None if mask.getbbox() is None else mask


def _bytes(sent: Any) -> bytes | None:
    if sent is None or isinstance(sent, bytes):
        return sent
    return Path(sent.path).read_bytes()

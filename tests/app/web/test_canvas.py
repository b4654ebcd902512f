"""What is painted over a picture becomes a mask; what is sent is decoded by the server's rules."""

from __future__ import annotations

import io

import gradio as gr
import pytest
from gradio.components.image_editor import EditorData, EditorDataBlobs
from gradio.data_classes import FileData
from PIL import Image, ImageDraw

from mindsd.app.server.refusal import Refusal
from mindsd.app.web.canvas import files_of, make_canvas


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def layer(size: tuple[int, int], box: tuple[int, int, int, int] | None = None) -> bytes:
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    if box:
        ImageDraw.Draw(picture).rectangle(box, fill=(225, 29, 72, 140))
    return png(picture)


PICTURE = png(Image.new("RGB", (64, 48), "white"))


def test_no_picture_gives_no_files():
    assert files_of(None) == files_of({"background": None, "layers": []}) == {}


def test_an_unpainted_picture_is_drawn_anew_as_a_whole():
    assert files_of({"background": PICTURE, "layers": [layer((64, 48))]}) == {"image": PICTURE}


def test_paint_becomes_white_whatever_its_colour():
    layers = [layer((64, 48), (8, 8, 15, 15)), layer((64, 48), (40, 20, 47, 27))]
    files = files_of({"background": PICTURE, "layers": layers})
    assert files["image"] == PICTURE
    with Image.open(io.BytesIO(files["mask_image"])) as mask:
        assert mask.size == (64, 48) and mask.histogram()[255] == 2 * 64
        assert mask.getpixel((10, 10)) == mask.getpixel((41, 21)) == 255
        assert sum(mask.histogram()[1:255]) == 0


def test_a_layer_of_another_scale_is_brought_to_the_pictures_size():
    files = files_of({"background": PICTURE, "layers": [layer((128, 96), (0, 0, 63, 47))]})
    with Image.open(io.BytesIO(files["mask_image"])) as mask:
        assert mask.size == (64, 48) and mask.getbbox() == (0, 0, 32, 24)


def test_bombs_and_other_formats_are_refused_before_they_are_decoded():
    bomb = png(Image.new("1", (9000, 9000)))
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "GIF")
    for data, said in ((bomb, "million pixels"), (buffer.getvalue(), "PNG, JPEG or WebP")):
        with pytest.raises(Refusal, match=said):
            files_of({"background": PICTURE, "layers": [data]})
        with pytest.raises(Refusal, match=said):
            files_of({"background": data, "layers": [layer((8, 8), (0, 0, 4, 4))]})


def test_the_editor_hands_out_bytes_of_files_and_of_what_was_sent_before(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(PICTURE)
    with gr.Blocks():
        editor = make_canvas()
    assert editor.preprocess(None) is None
    sent = EditorData(background=FileData(path=str(file)), layers=[], composite=None)
    assert editor.preprocess(sent) == {"background": PICTURE, "layers": []}
    blobs = EditorDataBlobs(background=PICTURE, layers=[None, b"paint"], composite=None)
    editor.blob_storage["7"] = blobs
    told = editor.preprocess(EditorData(id="7"))
    assert told == {"background": PICTURE, "layers": [b"paint"]} and not editor.blob_storage
    assert editor.preprocess(EditorData(id="7")) is None


def test_in_the_browser_it_is_gradios_editor():
    with gr.Blocks():
        assert make_canvas().get_block_name() == "imageeditor"

"""The image tab's handlers, over a small random model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from mindsd.app.web.image_form import LORAS, OWN
from mindsd.app.web.image_handlers import FIELDS, ImageHandlers
from mindsd.app.web.studio import Studio
from tests.app.web.test_canvas import PICTURE, layer

FORM: dict[str, Any] = {
    **dict.fromkeys(FIELDS, ""),
    **{"prompt": "a red circle", "model": None, "speed": "lossless", "size": "64x48"},
    **{"n": "1", "steps": "3", "seed": "7", "scheduler": OWN, "weighted": False, "strength": 0.5},
}


def form(**changes: Any) -> list[Any]:
    return [*(FORM | changes).values(), *[1.0] * LORAS]


async def draw(studio: Studio, id: Any = None, canvas: Any = None, **changes: Any):
    """Draw; the desk's id and the last state that a page shows."""
    handlers = ImageHandlers(studio)
    id = await handlers.draw(id, canvas, [], *form(**changes))
    states = [state async for state in handlers.watch(id)]
    return id, states[-1], states


def test_the_page_sees_it_drawn_and_then_the_file(in_studio):
    async def body(studio: Studio):
        id, last, states = await draw(studio, n="2", steps="8")
        assert any("Drawing 2 images" in own[0] or "waiting" in own[0] for own in states)
        files = [own for own in states if own[2].get("value")]
        status, rough, viewer, names, chosen, facts, download, history, newest = files[-1]
        assert "Done: 2 images" in last[0] and names == ["0001.png", "0002.png"]
        assert [Path(file).name for file, _ in viewer["value"]] == names and chosen == "0001.png"
        assert "a red circle" in facts and Path(download["value"]).name == "0001.png"
        assert newest[0] in names and len(history["value"]) == 2
        assert studio.desk(id).runs[0].seeds == [7, 8]

    in_studio(body)


def test_a_page_that_comes_later_sees_what_runs_and_what_is_there(in_studio):
    async def body(studio: Studio):
        handlers = ImageHandlers(studio)
        id, _, _ = await draw(studio)
        await handlers.draw(id, None, [], *form(steps="200"))
        watching: Any = handlers.watch(id)
        first = await anext(watching)
        assert "1 image" in first[0] and first[4] == "0001.png"
        await watching.aclose()  # the tab is closed, and what runs goes on
        assert studio.desk(id).live
        handlers.cancel(id)
        assert "Cancelled" in [state async for state in handlers.watch(id)][-1][0]

    in_studio(body)


def test_cancel_ends_the_oldest_and_cancel_all_the_rest(in_studio):
    async def body(studio: Studio):
        handlers, desk = ImageHandlers(studio), studio.desk()
        for _ in range(3):
            await handlers.draw(desk.id, None, [], *form(steps="900"))
        first, *others = desk.runs
        handlers.cancel(desk.id)
        while not first.over:
            await asyncio.sleep(0.01)
        assert desk.live == others
        handlers.cancel_all(desk.id)
        await studio.settled()
        assert {run.job.state for run in desk.runs} == {"cancelled"}

    in_studio(body)


def test_a_picture_is_drawn_anew_as_a_whole_or_where_it_is_painted(in_studio):
    async def body(studio: Studio):
        _, last, _ = await draw(studio, canvas={"background": PICTURE, "layers": []}, size="auto")
        assert "Done" in last[0]
        painted = {"background": PICTURE, "layers": [layer((64, 48), (0, 0, 31, 47))]}
        _, last, _ = await draw(studio, canvas=painted, size="auto")
        assert "Done" in last[0]
        whole, part = studio.exhibit.record("0001.png"), studio.exhibit.record("0002.png")
        assert whole is not None and part is not None
        assert set(whole.pictures) == {"image"} and set(part.pictures) == {"image", "mask_image"}
        assert whole.parameters.strength == part.parameters.strength == 0.5
        assert (whole.parameters.width, whole.parameters.height) == (64, 48)

    in_studio(body)


def test_a_pictures_settings_come_back(in_studio):
    async def body(studio: Studio):
        await draw(studio, seed="12345678901234567", speed="fast", steps="5")
        handlers = ImageHandlers(studio)
        *values, names = (await handlers.reuse("0001.png"))[: len(FIELDS) + 1]
        told = dict(zip(FIELDS, values, strict=True))
        assert told["seed"] == "12345678901234567" and told["speed"] == "fast" and names == []
        assert told["model"] == "draws" and told["size"] == "64x48" and told["steps"] == "5"
        again = [*values[:-1], 0.5, *[1.0] * LORAS]
        id = await handlers.draw(None, None, [], *again)
        await studio.settled()
        first, second = studio.output.path / "0001.png", studio.desk(id).runs[0].files[0]
        assert first.read_bytes() == second.read_bytes()
        with pytest.raises(gr.Error, match="choose a picture first"):
            await handlers.reuse(None)
        with pytest.raises(gr.Error, match="nothing is known"):
            await handlers.reuse("0009.png")

    in_studio(body)


def test_pictures_are_chosen_by_their_place(in_studio):
    async def body(studio: Studio):
        await draw(studio, n="2")
        handlers, names = ImageHandlers(studio), ["0002.png", "0001.png"]
        event: Any = SimpleNamespace(index=1)
        viewer, shown, chosen, facts, download = await handlers.pick(names, event)
        assert shown == ["0001.png"] and chosen == "0001.png" and "0001.png" in facts
        assert viewer["elem_classes"] == ["kept"]
        chosen, facts, download = await handlers.choose(names, SimpleNamespace(index=0))  # pyright: ignore
        assert chosen == "0002.png" and Path(download["value"]).name == "0002.png"
        assert Path(await handlers.file(chosen)).read_bytes().startswith(b"\x89PNG")
        for index in (2, -1, "0", None, [0, 1]):
            with pytest.raises(gr.Error, match="gone"):
                await handlers.pick(names, SimpleNamespace(index=index))  # pyright: ignore
        with pytest.raises(gr.Error, match="choose a picture first"):
            await handlers.file("../0001.png")

    in_studio(body)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": str(10**30)}, "steps: "),
        ({"prompt": "a" * 2_000_000}, "prompt: "),
        ({"model": "writes"}, "writes writes"),
        ({"model": "none"}, "no model 'none'"),
    ],
)
def test_what_is_wrong_is_said_at_once(in_studio, changes, said):
    async def body(studio: Studio):
        with pytest.raises(gr.Error, match=said) as refused:
            await ImageHandlers(studio).draw(None, None, [], *form(**changes))
        assert len(str(refused.value)) < 300 and studio.service.taken == 0

    in_studio(body)


def test_loras_have_a_weight_each(in_studio):
    async def body(studio: Studio):
        handlers = ImageHandlers(studio)
        shown = handlers.weights(["ink", "pen"])
        assert [own["visible"] for own in shown] == [True, True] + [False] * (LORAS - 2)
        assert shown[1]["label"] == "Weight of pen"
        id = await handlers.draw(None, None, ["ink"], *form())
        await studio.settled()
        assert "no LoRA 'ink'" in str(studio.desk(id).runs[0].trouble)
        values = [*form()[:-LORAS], None, *[1.0] * (LORAS - 1)]
        with pytest.raises(gr.Error, match="no weight"):
            await handlers.draw(None, None, ["ink"], *values)

    in_studio(body)


def test_another_model_forgets_a_scheduler_that_is_not_everybodys(in_studio):
    async def body(studio: Studio):
        handlers = ImageHandlers(studio)
        assert handlers.sampler("DPM++ 2M Karras") == "DPM++ 2M Karras"
        assert handlers.sampler("FlowMatchEulerDiscreteScheduler") == handlers.sampler(None) == OWN

    in_studio(body)


def test_a_tag_names_an_adapter_and_no_prompt_is_none(in_studio):
    async def body(studio: Studio):
        id, _, _ = await draw(studio, prompt="a fox <lora:ink:0.8>")
        assert "no LoRA 'ink'" in (studio.desk(id).runs[-1].trouble or "")
        with pytest.raises(gr.Error, match="there is no prompt"):
            await draw(studio, prompt="  ")

    in_studio(body)

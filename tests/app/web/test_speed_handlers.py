"""The speed tab's handlers, over a small random model."""

from __future__ import annotations

import gradio as gr
import pytest

from mindsd.app.web.speed_handlers import SpeedHandlers
from mindsd.app.web.studio import Studio

ASKED = ("a red circle", "draws", "12", "", "3")


def test_a_comparison_shows_both_images_their_figures_and_a_point(in_studio, profiles, profile):
    profile.write(profiles / "mine.profile.json")

    async def body(studio: Studio):
        handlers = SpeedHandlers(studio)
        assert "mine" in handlers.profiles()
        id = await handlers.compare(None, "fast", *ASKED)
        states = [state async for state in handlers.watch(id)]
        assert "mine" in states[0][2] and "<circle" in states[0][2]
        state, pair, drawn = states[-1]
        assert "SSIM" in state and "Fast" in state and len(pair) == 2
        assert drawn.count("<circle") == 2 and "fast (drawn here)" in drawn
        assert studio.desk(id).comparisons[0].plain.seed == 3
        assert not list(studio.output.path.glob("*.png"))

    in_studio(body)
    (profiles / "mine.profile.json").unlink()


def test_one_at_a_time_and_it_can_be_cancelled(in_studio):
    async def body(studio: Studio):
        handlers = SpeedHandlers(studio)
        id = await handlers.compare(None, "fast", "a", "draws", "900", "", "")
        with pytest.raises(gr.Error, match="a comparison runs"):
            await handlers.compare(id, "fast", *ASKED)
        handlers.cancel(id)
        states = [state async for state in handlers.watch(id)]
        assert "The job was cancelled" in states[-1][0]
        assert not studio.desk(id).compares

    in_studio(body)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("a", "none", "12", "", ""), "no model 'none'"),
        (("a", "draws", "1e9", "", ""), "steps: "),
        (("a" * 10_001, "draws", "12", "", ""), "prompt: "),
    ],
)
def test_what_is_wrong_is_said_at_once(in_studio, values, said):
    async def body(studio: Studio):
        desk = studio.desk()
        with pytest.raises(gr.Error, match=said):
            await SpeedHandlers(studio).compare(desk.id, "fast", *values)
        assert desk.comparisons == []

    in_studio(body)

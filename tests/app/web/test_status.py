"""What runs, in HTML."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from mindsd.app.server.refusal import STOPPED
from mindsd.app.web.image_form import body_of
from mindsd.app.web.status import progress, roughs, status
from mindsd.app.web.studio import Studio

SMALL = {"prompt": "a <b>fox</b> ${7*7}", "size": "64x64", "steps": "200", "seed": "7"}


def test_it_tells_of_steps_and_of_the_queue(in_studio):
    async def body(studio: Studio):
        desk = studio.desk()
        first = await studio.draw(desk, body_of(SMALL), {})
        second = await studio.draw(desk, body_of({**SMALL, "n": "2"}), {})
        third: Any = SimpleNamespace(place=lambda job: 2)
        assert "2 images: waiting, 2 before it" in status([second], third)
        while not first.roughs:
            await asyncio.sleep(0.01)
        done, total = first.job.steps[0]
        told = status([first], studio.service)
        assert "Drawing 1 image" in told and f"step {done} of 200" in told and total == 200
        assert f'value="{done}" max="200"' in told and "it/s" in told and "left" in told
        assert "<b>" not in told and "a &lt;b&gt;fox" in told
        assert 'alt="rough picture of image 1" src="data:image/jpeg' in roughs([first])
        for run in desk.live:
            run.job.cancel()
        assert "Stopping" in status([first], studio.service)
        await studio.settled()
        assert "Cancelled" in status(desk.runs, studio.service) and roughs(desk.runs) == ""

    in_studio(body)


def test_the_end_says_what_came_of_it(in_studio):
    async def body(studio: Studio):
        run = await studio.draw(studio.desk(), body_of({**SMALL, "steps": "2", "n": "2"}), {})
        await studio.settled()
        told = status([run], studio.service)
        assert "Done: 2 images in " in told and "seeds 7 to 8" in told
        run.job.refusal, run.trouble = STOPPED, "the <disk> is full"
        assert "Cancelled: 2 images" in status([run], studio.service)
        wrong = await studio.draw(studio.desk(), body_of({**SMALL, "scheduler": "Nope"}), {})
        await studio.settled()
        assert "Failed: " in status([wrong], studio.service) and "Nope" in str(wrong.trouble)

    in_studio(body)


def test_nothing_says_nothing(in_studio):
    async def body(studio: Studio):
        assert status([], studio.service) == roughs([]) == ""

    in_studio(body)


def test_a_bar_without_a_total_only_moves():
    assert "value" not in progress("steps", 0, 0) and 'max="4"' in progress("steps", 1, 4)

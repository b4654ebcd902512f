"""Desks and what runs on them, over real small models."""

from __future__ import annotations

import asyncio

import pytest

from mindsd.app.picture_record import read_record
from mindsd.app.server.refusal import Refusal
from mindsd.app.web.image_form import body_of
from mindsd.app.web.studio import DESKS, RUNS, Studio

SMALL = {"prompt": "a red circle", "size": "64x64", "steps": "2", "seed": "7"}


async def over(*runs) -> None:
    while not all(run.over for run in runs):
        await asyncio.sleep(0.01)


def test_images_become_files_that_say_how_they_were_made_though_nobody_looks(in_studio):
    async def body(studio: Studio):
        run = await studio.draw(studio.desk(), body_of({**SMALL, "n": "2"}), {})
        await studio.settled()
        assert run.over and run.job.state == "done" and run.trouble is None
        return run

    run = in_studio(body)
    records = [own for place in (0, 1) if (own := read_record(run.files[place]))]
    assert [own.parameters.seed for own in records] == run.seeds == [7, 8]
    assert {own.parameters.prompt for own in records} == {"a red circle"}
    assert records[0].model == "draws" and records[0].parameters.steps == 2


def test_rough_pictures_come_on_the_way_and_go_at_the_end(in_studio):
    async def body(studio: Studio):
        desk, seen = studio.desk(), 0
        run = await studio.draw(desk, body_of({**SMALL, "steps": "40"}), {})
        while not run.over:
            change = desk.change
            seen = max(seen, len(run.roughs))
            assert all(url.startswith("data:image/jpeg;base64,") for url in run.roughs.values())
            await change.wait()
        assert seen == 1 and not run.roughs and run.seconds

    in_studio(body)


def test_a_cancelled_run_ends_and_the_other_is_kept(in_studio):
    async def body(studio: Studio):
        desk = studio.desk()
        short = await studio.draw(desk, body_of(SMALL), {})
        long = await studio.draw(desk, body_of({**SMALL, "steps": "900", "n": "2"}), {})
        await over(short)
        assert desk.live == [long]
        long.job.cancel()
        await over(long)
        assert long.job.state == "cancelled" and not long.files and len(short.files) == 1
        assert not desk.is_busy

    in_studio(body)


def test_too_much_is_refused_before_it_begins(in_studio):
    async def body(studio: Studio):
        desk = studio.desk()
        with pytest.raises(Refusal, match="at most 2"):
            await studio.draw(desk, body_of({**SMALL, "n": "3"}), {})
        run = await studio.draw(desk, body_of({**SMALL, "steps": "900", "n": "2"}), {})
        with pytest.raises(Refusal, match="places are taken"):
            await studio.draw(desk, body_of(SMALL), {})
        run.job.cancel()

    in_studio(body, requests=2)


def test_a_picture_that_is_none_lets_its_place_go(in_studio):
    async def body(studio: Studio):
        with pytest.raises(Refusal, match="PNG, JPEG or WebP"):
            await studio.draw(studio.desk(), body_of(SMALL), {"image": b"GIF89a"})
        assert studio.service.taken == 0

    in_studio(body)


def test_a_folder_that_cannot_be_written_is_said(in_studio):
    async def body(studio: Studio):
        run = await studio.draw(studio.desk(), body_of({**SMALL, "steps": "30"}), {})
        for file in studio.output.path.iterdir():
            file.unlink()
        studio.output.path.rmdir()
        await over(run)
        assert run.trouble is not None and "cannot be written" in run.trouble

    in_studio(body)


def test_desks_are_found_by_their_id_alone_and_forgotten_when_idle(in_studio):
    async def body(studio: Studio):
        busy, idle = studio.desk(), studio.desk()
        assert studio.desk(busy.id) is busy and studio.desk(idle.id) is idle
        assert studio.desk("made up").id != "made up" and studio.desk({"a": 1}) is not idle
        run = await studio.draw(busy, body_of({**SMALL, "steps": "900"}), {})
        for _ in range(2 * DESKS):
            studio.desk()
        assert studio.desk(busy.id) is busy and studio.desk(idle.id) is not idle
        run.job.cancel()

    in_studio(body)


def test_a_desk_keeps_its_last_runs_and_all_that_live(in_studio):
    async def body(studio: Studio):
        desk = studio.desk()
        live = await studio.draw(desk, body_of({**SMALL, "steps": "900"}), {})
        runs = [await studio.draw(desk, body_of({**SMALL, "steps": "1"}), {}) for _ in range(RUNS)]
        await over(*runs)
        last = await studio.draw(desk, body_of(SMALL), {})
        assert len(desk.runs) == RUNS and desk.runs[0] is live and desk.runs[-1] is last
        assert desk.runs[1] is runs[2]
        live.job.cancel()

    in_studio(body)


def test_the_loaded_models_come_first(in_studio):
    async def body(studio: Studio):
        with studio.service.hub.lease("writes"):
            assert studio.models("text", "vision")[0] == "writes"
        assert studio.models("image") == ["draws"]

    in_studio(body)

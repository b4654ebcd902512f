"""A job's life, over real small models."""

from __future__ import annotations

import asyncio
import gc
import threading
from dataclasses import replace
from weakref import ref

import pytest
from structlog.contextvars import bound_contextvars
from structlog.testing import capture_logs

from mindsd.app.server.job import Job
from mindsd.app.server.refusal import STOPPED, TIMED_OUT, Refusal
from mindsd.app.server.service import Service
from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.resident import Resident
from mindsd.request import Done, Step


def drawing(*steps: int):
    def submit(resident: Resident):
        for seed, number in enumerate(steps):
            parameters = ImageParameters("a", steps=number, seed=seed, width=64, height=64)
            yield resident.text_to_image.submit(parameters)

    return submit


def test_it_tells_its_events_and_gives_its_results(served):
    async def body(client, service: Service):
        async with service.open("image", "draws", 2) as job:
            assert job.state == "queued"
            events = job.follow()
            service.start(job, drawing(2, 3))
            told = [told async for told in events]
            images = await job.finished()
        assert job.state == "done" and [image.size for image in images] == [(64, 64)] * 2
        assert job.steps == [(2, 2), (3, 3)]
        assert sum(isinstance(event, Done) for _, event in told) == 2
        assert [e.done for place, e in told if place == 1 and isinstance(e, Step)] == [1, 2, 3]
        assert service.find(job.id) is job and service.hub.loaded()["draws"] == 0

    served(body)


def test_cancelled_before_it_starts_while_it_starts_and_while_it_runs(served):
    async def body(client, service: Service):
        async with service.open("image", "draws") as job:
            pass
        assert job.state == "cancelled" and service.taken == 0
        async with service.open("image", "draws") as job:
            service.start(job, drawing(900))
            job.cancel()
            with pytest.raises(Refusal, match="was cancelled"):
                await job.finished()
        await job.wait()
        async with service.open("image", "draws", 2) as job:
            events = job.follow()
            service.start(job, drawing(900, 900))
            async for _, event in events:
                if isinstance(event, Step):
                    job.cancel()
            assert job.state == "running"  # its requests end at their next step
            await job.wait()
            assert job.state == "cancelled"
        assert service.taken == 0 and service.hub.loaded()["draws"] == 0

    served(body)


def test_what_is_refused_halfway_takes_the_rest_with_it(served):
    async def body(client, service: Service):
        def submit(resident: Resident):
            yield resident.text_to_image.submit(ImageParameters("a", steps=900, width=64))
            yield resident.text_to_image.submit(ImageParameters("a", width=63))

        async with service.open("image", "draws", 2) as job:
            service.start(job, submit)
            with pytest.raises(Refusal) as refused:
                await job.finished()
        assert refused.value.status == 400 and job.state == "failed"
        await asyncio.to_thread(service.hub.engine.drain, 10)
        assert service.hub.engine.load() == (0, 0)

    served(body)


def test_time_runs_out(served):
    async def body(client, service: Service):
        async with service.open("image", "draws", seconds=0.05) as job:
            service.start(job, drawing(900))
            with pytest.raises(Refusal) as refused:
                await job.finished()
            await job.wait()
        assert refused.value.status == replace(TIMED_OUT).status == 504

    served(body)


def test_no_more_places_than_there_are(served):
    async def body(client, service: Service):
        jobs: list[Job] = [service.open("image", "draws") for _ in range(2)]
        with pytest.raises(Refusal) as refused:
            service.open("image", "draws", 2)
        assert refused.value.status == 429 and refused.value.headers == {"Retry-After": "1"}
        jobs.append(service.open("image", "draws"))
        for job in jobs:
            job.cancel()
        assert service.taken == 0

    served(body, requests=3)


def test_draining_takes_no_more_and_waits_for_what_runs(served):
    async def body(client, service: Service):
        job, slow = service.open("image", "draws"), service.open("image", "draws", 4)
        service.start(job, drawing(2))
        service.start(slow, drawing(900, 900, 900, 900))
        await service.drain(3)
        with pytest.raises(Refusal, match="going down"):
            service.open("image", "draws")
        assert job.state == "done" and slow.refusal and slow.refusal.status == 503

    served(body)


def test_a_job_that_is_remembered_keeps_nothing_large(served):
    async def body(client, service: Service):
        seen: list[ref] = []

        def submit(resident: Resident):
            request = resident.text_to_image.submit(ImageParameters("a", steps=2, width=64))
            seen.extend([ref(resident), ref(request)])
            yield request

        async with service.open("image", "draws") as job:
            service.start(job, submit)
            seen.append(ref((await job.finished())[0]))
        failed = service.open("image", "draws")
        service.start(failed, lambda own: seen.append(ref(own)) or [][0])
        await failed.wait()
        await asyncio.to_thread(service.hub.unload, "draws")
        gc.collect()
        assert [own() for own in seen] == [None] * 4
        assert [service.find(own.id).state for own in (job, failed)] == ["done", "failed"]

    served(body)


def test_reasons_that_many_jobs_have_hold_none_of_their_frames(served):
    async def body(client, service: Service):
        told: list[Refusal] = []
        for _ in range(2):
            job = service.open("image", "draws")
            job.cancel()
            for _ in range(2):
                with pytest.raises(Refusal) as refused:
                    await job.finished()
                told.append(refused.value)
        assert STOPPED.__traceback__ is None and len(set(map(id, told))) == 4

    served(body)


@pytest.mark.parametrize("kind", [StopIteration, SystemExit, type("Panic", (BaseException,), {})])
def test_what_no_future_takes_ends_the_job_as_well(served, kind):
    async def body(client, service: Service):
        def submit(resident: Resident):
            raise kind("x")

        job = service.open("image", "draws")
        with capture_logs() as lines, bound_contextvars(request_id="its own"):
            service.start(job, submit)
            with pytest.raises(Refusal) as refused:
                await asyncio.wait_for(job.finished(), 20)
        assert refused.value.status == 500 and service.taken == 0
        assert service.hub.loaded()["draws"] == 0
        assert [line["event"] for line in lines] == ["job failed"]

    served(body)


def test_the_log_of_a_failure_has_the_request_that_asked(served):
    async def body(client, service: Service):
        with bound_contextvars(request_id="its own"):
            job = service.open("image", "draws")
        with capture_logs() as lines:
            service.start(job, lambda own: [][0])
            await job.wait()
        assert [line["request_id"] for line in lines] == ["its own"]

    served(body)


def test_a_model_that_loads_keeps_nobody_else_waiting(served, monkeypatch):
    async def body(client, service: Service):
        loading, enter = threading.Event(), service.hub.enter

        def slowly(id: str) -> Resident:
            if id != "sees":
                return enter(id)
            loading.wait(20)
            raise ModelError("it is broken")

        await asyncio.to_thread(service.hub.unload, "sees")
        service.hub.leave(enter("draws"))
        monkeypatch.setattr(service.hub, "enter", slowly)
        waiting = [service.open("chat", "sees") for _ in range(40)]
        for job in waiting:
            service.start(job, drawing(1))
        async with service.open("image", "draws") as job:
            service.start(job, drawing(1))
            assert len(await job.finished()) == 1
        assert {own.state for own in waiting} == {"queued"} and not loading.is_set()
        loading.set()
        for own in waiting:
            await own.wait()
            assert own.refusal is not None and own.refusal.code == "modelerror"

    served(body)


def test_who_goes_while_the_model_loads_has_nothing_submitted(served, monkeypatch):
    async def body(client, service: Service):
        submitted: list[Resident] = []
        loading, enter = threading.Event(), service.hub.enter
        monkeypatch.setattr(service.hub, "enter", lambda id: loading.wait(20) and enter(id))
        await asyncio.to_thread(service.hub.unload, "draws")
        job = service.open("image", "draws")
        service.start(job, lambda own: submitted.append(own) or [])
        await asyncio.sleep(0.05)
        job.cancel()
        loading.set()
        await job.wait()
        assert job.state == "cancelled" and not submitted
        assert service.hub.loaded() == {**service.hub.loaded(), "draws": 0}

    served(body)


def test_it_ends_by_what_it_is_left_for(served):
    async def body(client, service: Service):
        for error, state in ((RequestError("no"), "failed"), (ValueError("no"), "cancelled")):
            job = service.open("image", "draws")
            with pytest.raises(ValueError, match="no"):
                async with job:
                    raise error
            assert job.state == state

    served(body)

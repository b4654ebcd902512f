"""A job's life, over real small models."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mindsd.app.server.job import Job
from mindsd.app.server.refusal import TIMED_OUT, Refusal
from mindsd.app.server.service import Service
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

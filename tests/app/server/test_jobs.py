"""A job seen from outside."""

from __future__ import annotations

from mindsd.app.server.service import Service
from mindsd.pipelines.parameters import ImageParameters
from mindsd.request import Step


def test_a_job_is_seen_and_cancelled(served):
    async def body(client, service: Service):
        job = service.open("image", "draws")
        waiting = service.open("image", "draws")
        parameters = ImageParameters("a", steps=500, width=64, height=64)
        events = job.follow()
        service.start(job, lambda own: [own.text_to_image.submit(parameters)])
        async for _, event in events:
            if isinstance(event, Step):
                break
        told = (await client.get(f"/v1/jobs/{job.id}")).json()
        assert (told["state"], told["kind"], told["model"]) == ("running", "image", "draws")
        assert told["steps"]["total"] == 500 and 0 < told["steps"]["done"] < 500
        other = (await client.get(f"/v1/jobs/{waiting.id}")).json()
        assert other["state"] == "queued" and other["ahead"] == 0
        assert len((await client.get("/v1/jobs")).json()["data"]) == 2
        await client.delete(f"/v1/jobs/{job.id}")
        await job.wait()
        waiting.cancel()
        told = (await client.get(f"/v1/jobs/{job.id}")).json()
        assert told["state"] == "cancelled" and told["error"]["code"] == "cancelled"
        assert (await client.delete(f"/v1/jobs/{job.id}")).json()["ended"] == told["ended"]
        missing = await client.get("/v1/jobs/no-such-job")
        assert missing.status_code == 404 and missing.json()["error"]["code"] == "job_not_found"

    served(body)

"""Models by id: listed, loaded, unloaded, and kept while they are used."""

from __future__ import annotations

from mindsd.app.server.service import Service
from mindsd.pipelines.parameters import ImageParameters


def test_they_are_listed_with_their_kinds(served):
    async def body(client, service: Service):
        told = (await client.get("/v1/models")).json()
        assert {own["id"]: own["kind"] for own in told["data"]} == {
            "draws": "image",
            "writes": "text",
            "sees": "vision",
        }
        one = (await client.get("/v1/models/draws")).json()
        assert one["object"] == "model" and one["owned_by"] == "mindsd" and one["created"] > 0
        missing = await client.get("/v1/models/drws")
        assert missing.status_code == 404
        assert missing.json()["error"]["message"] == "no model 'drws'; did you mean 'draws'?"
        assert missing.json()["error"]["code"] == "model_not_found"

    served(body)


def test_one_is_loaded_and_unloaded_and_not_while_it_is_used(served):
    async def body(client, service: Service):
        assert (await client.post("/v1/models/writes/load")).json()["loaded"]
        assert not (await client.post("/v1/models/writes/unload")).json()["loaded"]
        assert not (await client.post("/v1/models/writes/unload")).json()["loaded"]
        assert (await client.post("/v1/models/nothing/load")).status_code == 404
        job = service.open("image", "draws")
        parameters = ImageParameters("a", steps=500, width=64, height=64)
        service.start(job, lambda own: [own.text_to_image.submit(parameters)])
        async for _ in job.follow():
            break
        refused = await client.post("/v1/models/draws/unload")
        assert refused.status_code == 400 and "in use by 1" in refused.json()["error"]["message"]
        job.cancel()

    served(body)

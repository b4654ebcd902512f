"""What is counted is what was done."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mindsd.app.server.refusal import Refusal
from mindsd.app.server.service import Service
from mindsd.config import Acceleration
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.resident import Resident
from mindsd.stepcache.plan import Kind, StepCache


async def figures(client) -> dict[str, float]:
    """Sums over all labels but those that are asked for."""
    told = (await client.get("/metrics")).text
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(told):
        for sample in family.samples:
            outcome = sample.labels.get("outcome") or sample.labels.get("code")
            name = f"{sample.name}:{outcome}" if outcome else sample.name
            if "le" not in sample.labels:
                found[name] = found.get(name, 0) + sample.value
    return found


def test_images_and_texts_are_counted_and_timed(served):
    def images(resident: Resident):
        for seed in range(2):
            less = Acceleration(StepCache.parse("skip:2"))
            parameters = ImageParameters(
                "a", steps=16, seed=seed, width=64, height=64, acceleration=less
            )
            yield resident.text_to_image.submit(parameters)

    def text(resident: Resident):
        yield resident.text.submit([5, 6, 7], max_tokens=4, ignore_eos=True, n=2)

    async def body(client, service: Service):
        for kind, model, submit, many in (
            ("image", "draws", images, 2),
            ("completion", "writes", text, 1),
        ):
            async with service.open(kind, model, many) as job:
                service.start(job, submit)
                await job.finished()
        async with service.open("image", "draws"):
            pass  # and cancelled
        with pytest.raises(Refusal):
            service.open("image", "draws", 1000)
        return await figures(client)

    told = served(body)
    assert told["mindsd:images_total"] == 2
    assert told["mindsd:image_step_time_seconds_count"] == 32
    assert told["mindsd:prompt_tokens_total"] == 3 and told["mindsd:generation_tokens_total"] == 8
    assert told["mindsd:time_to_first_token_seconds_count"] == 2
    assert 0 < told["mindsd:inter_token_latency_seconds_count"] <= 6
    assert told["mindsd:request_total:done"] == 2 and told["mindsd:request_total:cancelled"] == 1
    assert told["mindsd:request_refused_total:too_many"] == 1
    assert told["mindsd:e2e_request_latency_seconds_count"] == 3
    assert told["mindsd:request_queue_time_seconds_count"] == 3
    assert told["mindsd:num_places_taken"] == 0 and told["mindsd:num_places"] == 256
    whole = sum(kind is Kind.WHOLE for kind in StepCache.parse("skip:2").fixed(16) or ())
    assert 0 < whole < 16 and told["mindsd:step_cache_skips_total"] == 2 * 2 * (16 - whole)
    assert told["mindsd:forwards_total"] > 0 and told["mindsd:rows_total"] > 0


def test_each_answer_has_a_first_token_of_its_own(served):
    def texts(resident: Resident):
        for _ in range(2):
            yield resident.text.submit([5, 6, 7], max_tokens=3, ignore_eos=True, n=2)

    async def body(client, service: Service):
        async with service.open("completion", "writes", 4) as job:
            service.start(job, texts)
            await job.finished()
        return await figures(client)

    assert served(body)["mindsd:time_to_first_token_seconds_count"] == 4

"""The API against its own document, by schemathesis: no answer that the document does not tell of.

Cases are drawn from the document, right ones and wrong ones. What is right is made small: the
models are tiny but not instant.
"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from mindsd.app.server.application import create_app
from mindsd.app.server.guard import GuardOptions
from mindsd.app.server.service import Service
from mindsd.pipelines.hub import Hub

MOST = {"steps": 2, "n": 2, "best_of": 2, "max_tokens": 2, "max_completion_tokens": 2}


def guarded(hub: Any) -> Any:
    return create_app(Service(hub), GuardOptions(hosts=("testserver",)))


def operations() -> list[tuple[str, str, GenerationMode]]:
    """Every one with right cases, and with wrong ones where it has a body that can be wrong."""
    paths = guarded(None).openapi()["paths"].items()
    found = [(path, way, told[way]) for path, told in paths for way in told]
    right = [(path, way, GenerationMode.POSITIVE) for path, way, _ in found]
    wrong = [
        (path, way, GenerationMode.NEGATIVE) for path, way, own in found if "requestBody" in own
    ]
    return right + wrong


@pytest.fixture(scope="module")
def document(hub: Hub) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", guarded(hub))


def small(body: Any) -> Any:
    """The same with less to do; what is no number of steps, tokens or images stays as it is."""
    if not isinstance(body, dict):
        return body
    most = {
        name: least for name, least in MOST.items() if name != "steps" or "messages" not in body
    }
    made = dict(body)
    for name, value in most.items():
        if name in made and type(made[name]) is int and value < made[name] <= 10_000:
            made[name] = value
    return made


@pytest.mark.parametrize(("path", "way", "mode"), operations())
def test_every_answer_is_as_the_document_says(path: str, way: str, mode: Any, document: Any):
    @given(case=document[path][way].as_strategy(generation_mode=mode))
    @settings(
        max_examples=15,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def asked(case: Any) -> None:
        case.body = small(case.body)
        case.call_and_validate()

    asked()

"""The API against its own document, by schemathesis: no answer that the document does not tell of.

Cases are drawn from the document, right ones and wrong ones. What is right is made small: the
models are tiny but not instant.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from mindsd.app.server.application import create_app
from mindsd.app.server.service import Service
from mindsd.pipelines.hub import Hub
from tests.app.server.live_server import live_server

MOST = {"steps": 2, "n": 2, "best_of": 2, "max_tokens": 2, "max_completion_tokens": 2}
MODELS = {"images": "draws", "chat": "sees", "completions": "writes"}
# A document cannot say that two fields do not go together, so right cases may be refused.
LEFT_OUT = [positive_data_acceptance]


def operations() -> list[tuple[str, str, GenerationMode]]:
    """Every one with right cases, and with wrong ones where it has a body that can be wrong."""
    unused: Any = None
    paths = create_app(Service(unused)).openapi()["paths"].items()
    found = [(path, way, told[way]) for path, told in paths for way in told]
    right = [(path, way, GenerationMode.POSITIVE) for path, way, _ in found]
    bodies = [(path, way) for path, way, own in found if "requestBody" in own]
    return right + [(*known, GenerationMode.NEGATIVE) for known in bodies]


@pytest.fixture(scope="module")
def document(hub: Hub) -> Iterator[Any]:
    with live_server(hub, requests=64, seconds=20) as live:
        yield schemathesis.openapi.from_url(f"{live.base_url}/openapi.json")


def small(path: str, body: Any) -> Any:
    """The same with less to do, of a model that is there; what is wrong with it stays wrong."""
    if not isinstance(body, dict):
        return body
    kind = path.split("/")[2]
    made = {"steps" if kind == "images" else "max_tokens": 1, **body}
    for name, most in MOST.items():
        if type(made.get(name)) is int and most < made[name] <= 10_000:
            made[name] = most
    if type(made.get("timeout")) in (int, float) and 0 < made["timeout"] < 20:
        made["timeout"] = 20.0  # 504 would be right, too
    if isinstance(made.get("model", ""), str) and len(made.get("model", "")) <= 64:
        made["model"] = MODELS[kind]
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
        suppress_health_check=tuple(HealthCheck),  # pyright: ignore[reportArgumentType]
    )
    def asked(case: Any) -> None:
        case.body = small(path, case.body)
        case.call_and_validate(excluded_checks=LEFT_OUT)

    asked()

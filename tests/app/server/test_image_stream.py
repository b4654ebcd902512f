"""Streams of images on a real socket, and clients that go away."""

from __future__ import annotations

import json
import socket
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from mindsd.app.server.job import Job
from mindsd.request import Event, Preview, Step
from tests.app.server.live_server import Live, eventually

PATH = "/v1/images/generations"
LONG = {"prompt": "a", "model": "draws", "size": "64x64", "steps": 900, "seed": 1}


class Heard:
    """What a service tells of its jobs.

    Attributes:
        late: steps that a job did after it was cancelled, by its id.
        previews: after which steps there were some.
    """

    def __init__(self, live: Live) -> None:
        self.late: Counter[str] = Counter()
        self.previews: list[int] = []
        live.service.listeners.append(self._hear)

    def _hear(self, job: Job, place: int, event: Event) -> None:
        if isinstance(event, Step) and job.refusal is not None:
            self.late[job.id] += 1
        if isinstance(event, Preview):
            self.previews.append(event.step)


@pytest.fixture
def heard(live: Live) -> Heard:
    return Heard(live)


def connected(live: Live, body: dict[str, Any]) -> socket.socket:
    """A connection that has asked, and has read nothing yet."""
    url, content = urlsplit(live.base_url), json.dumps(body).encode()
    assert url.hostname is not None and url.port is not None
    opened = socket.create_connection((url.hostname, url.port), timeout=30)
    head = f"POST {PATH} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
    opened.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return opened


def latest(live: Live) -> Job:
    return live.service.jobs()[-1]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_takes_its_images_with_it(live: Live, heard: Heard, stream: bool):
    with connected(live, LONG | {"n": 2, "stream": stream}) as client:
        eventually(lambda: bool(live.service.jobs()) and len(latest(live).steps) == 2)
        job = latest(live)
        eventually(lambda: all(done > 2 for done, _ in job.steps))
        if stream:
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
    eventually(lambda: job.over)
    assert job.state == "cancelled" and all(done < 900 for done, _ in job.steps)
    assert heard.late[job.id] <= 2 * 2  # two steps of each image
    eventually(live.is_idle)


@pytest.mark.parametrize("stream", [False, True])
def test_clients_that_go_away_at_once_leave_nothing(live: Live, stream: bool):
    for _ in range(20):
        connected(live, LONG | {"stream": stream}).close()
    eventually(lambda: len(live.service.jobs()) == 20)  # each was admitted
    eventually(live.is_idle)
    assert {job.state for job in live.service.jobs()} == {"cancelled"}
    answer = httpx.post(live.base_url + PATH, json=LONG | {"steps": 2})
    assert answer.status_code == 200


def test_what_fails_in_a_stream_is_its_last_event(live: Live):
    with httpx.stream("POST", live.base_url + PATH, json=LONG | {"stream": True}) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        gone = httpx.delete(f"{live.api}/jobs/{answer.headers['X-Job-Id']}")
        assert gone.status_code == 200
        name, data = answer.read().decode().strip().split("\n")
    told = json.loads(data.removeprefix("data: "))
    assert name == "event: error" and told["type"] == "error"
    assert told["error"] == {
        "message": "the job was cancelled",
        "type": "invalid_request_error",
        "param": None,
        "code": "cancelled",
    }
    eventually(live.is_idle)


def test_openais_client_raises_what_fails_in_a_stream(live: Live):
    with openai.OpenAI(base_url=live.api, api_key="none", max_retries=0) as client:
        more = {"steps": 900, "timeout": 0.5}
        stream = client.images.generate(prompt="a", size="64x64", stream=True, extra_body=more)
        with pytest.raises(openai.APIError, match="took longer than it may"):
            list(stream)


@pytest.mark.parametrize(
    "steps, partials, expected", [(9, 2, [3, 6]), (8, 3, [2, 4, 6]), (2, 3, [1]), (9, 0, [])]
)
def test_partial_images_lie_evenly(live: Live, steps: int, partials: int, expected: list[int]):
    heard = Heard(live)
    asked = LONG | {"steps": steps, "stream": True, "partial_images": partials}
    text = httpx.post(live.base_url + PATH, json=asked).text
    told = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]
    assert [own.get("partial_image_index") for own in told] == [*range(len(expected)), None]
    assert heard.previews[: len(expected)] == expected


def test_each_of_several_images_is_told_by_its_number(live: Live):
    asked = LONG | {"steps": 4, "n": 2, "stream": True, "partial_images": 1}
    text = httpx.post(live.base_url + PATH, json=asked).text
    told = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]
    kinds = Counter((own["image_index"], own["type"].split(".")[1]) for own in told)
    assert kinds == {(i, kind): 1 for i in (0, 1) for kind in ("partial_image", "completed")}
    seeds = {own["image_index"]: own["seed"] for own in told if "seed" in own}
    assert seeds == {0: 1, 1: 2}

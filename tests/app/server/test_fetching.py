"""Pictures that are fetched for a chat keep nobody waiting who sent his own."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from mindsd.app.server.application import create_app
from mindsd.app.server.chat_body import ChatBody
from mindsd.app.server.chat_task import ChatTask
from mindsd.app.server.refusal import Refusal
from mindsd.app.server.remote import Remote
from mindsd.app.server.service import Service
from mindsd.app.server.threads import FETCHERS
from mindsd.app.server.uploads import DECODERS

SLOW = "http://slow.example/a.png"


def data_url() -> str:
    file = BytesIO()
    Image.new("RGB", (16, 16), (255, 0, 0)).save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def asking(*urls: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"model": "sees", "max_tokens": 2, "messages": [{"role": "user", "content": parts}]}


def test_a_slow_host_delays_only_those_who_ask_for_it(served):
    asked, answers = threading.Semaphore(0), threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        asked.release()
        answers.wait(20)
        raise OSError("no such name")

    async def body(client, service: Service):
        remote = Remote(("slow.example",), resolve=resolve)
        transport = httpx.ASGITransport(create_app(service, remote=remote))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as own:
            path = "/v1/chat/completions"
            slow = [asyncio.create_task(own.post(path, json=asking(SLOW))) for _ in range(8)]
            await asyncio.to_thread(asked.acquire)
            quick = await own.post(path, json=asking(data_url()))
            assert quick.status_code == 200 and not answers.is_set()
            answers.set()
            for told in await asyncio.gather(*slow):
                assert told.json()["error"]["code"] == "image_not_fetched"

    served(body)


def test_nothing_more_is_fetched_for_who_is_gone():
    found: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        found.append(host)
        task.stop()
        raise OSError("no such name")

    body = ChatBody.model_validate(asking(SLOW, SLOW))
    task = ChatTask(body, Remote(("slow.example",), resolve=resolve))
    assert task.readers is FETCHERS
    for _ in range(2):
        with pytest.raises(Refusal):
            task.decode()
    assert found == ["slow.example"]


def test_only_what_is_elsewhere_is_fetched_and_only_where_that_is_allowed():
    remote = Remote(("slow.example",))
    assert ChatTask(ChatBody.model_validate(asking(data_url())), remote).readers is DECODERS
    assert ChatTask(ChatBody.model_validate(asking(SLOW))).readers is DECODERS

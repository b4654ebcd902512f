"""The fixture of a real server is one."""

from __future__ import annotations

import httpx


def test_it_answers_on_a_socket(live):
    models = httpx.get(f"{live.api}/models").json()["data"]
    assert {model["id"] for model in models} == {"draws", "writes", "sees"} and live.is_idle()

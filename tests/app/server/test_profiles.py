"""A profile that the operator tuned is one more speed of the API's, for its own model alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from diffusers import DiffusionPipeline

from mindsd.app.picture_record import read_record
from mindsd.config import Acceleration
from mindsd.pipelines.fingerprint import fingerprint
from mindsd.pipelines.hub import Hub, HubOptions
from mindsd.pipelines.profile import Measured, Profile
from mindsd.pipelines.shelf import Shelf
from mindsd.stepcache.plan import StepCache
from tests.app.server.conftest import client_of
from tests.app.server.test_image_routes import file_of

GENERATE = "/v1/images/generations"
ASKED = {"model": "draws", "prompt": "a", "steps": 12, "size": "64x64", "seed": 1}
TUNED = Acceleration(step_cache=StepCache.parse("skip:3"))


@pytest.fixture
def tuned(model: Path, tmp_path: Path):
    """A hub whose shelf has the profiles `mine`, `other` and `broken`."""
    measured = Measured(16, 0.4, 0.1, 3.9, 4.0, 4.1, 33.2, 28.0, 0.981, 0.96, None, None)
    own = fingerprint(DiffusionPipeline.from_pretrained(model))
    profile = Profile(
        *("draws", own, "cpu", "x86", "float32", 12, 3.0, None, 64, 64, 1, "ssim>=0.98"),
        *(TUNED, measured, {}, "2026-01-01"),
    )
    profile.write(tmp_path / "mine.profile.json")
    replace(profile, fingerprint="0" * 16).write(tmp_path / "other.json")
    (tmp_path / "broken.json").write_text("{")
    shelf = Shelf(named={"draws": model}, shipped=False, profiles=tmp_path)
    with Hub(shelf, HubOptions("cpu", "float32")) as hub:
        yield hub


def test_a_profile_is_one_more_speed(tuned: Hub, tmp_path: Path):
    async def drawn(client: httpx.AsyncClient, **more: object) -> Acceleration:
        answer = await client.post(GENERATE, json=ASKED | more)
        assert answer.status_code == 200, answer.text
        (tmp_path / "a.png").write_bytes(file_of(answer.json()))
        record = read_record(tmp_path / "a.png")
        assert record is not None
        return record.parameters.acceleration

    async def run() -> None:
        async with client_of(tuned) as (client, _):
            assert await drawn(client, speed="mine") == TUNED
            own = await drawn(client, speed="mine", guidance_until=0.5)
            assert own == replace(TUNED, guidance_until=0.5)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("speed", "code", "said"),
    [
        ("mime", "unknown_speed", "no speed 'mime'; did you mean mine?"),
        ("../mine", "unknown_speed", "no speed"),
        ("other", "wrong_profile", "another model"),
        ("broken", "wrong_profile", "cannot be read"),
    ],
)
def test_others_are_refused(tuned: Hub, tmp_path: Path, speed: str, code: str, said: str):
    async def run() -> None:
        async with client_of(tuned) as (client, _):
            answer = await client.post(GENERATE, json=ASKED | {"speed": speed})
            error = answer.json()["error"]
            assert (answer.status_code, error["param"], error["code"]) == (400, "speed", code)
            assert said in error["message"] and str(tmp_path) not in answer.text

    asyncio.run(run())

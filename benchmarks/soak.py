"""Does the server hold under many users? Nothing lost, nothing swapped, memory flat, health quick.

    python benchmarks/soak.py                            # 64 clients for 60 s, then 200 disconnects
    python benchmarks/soak.py --clients 4 --seconds 5 --disconnects 10      # to try it

A server of its own process, `mindsd serve` on the loopback address, with tiny-sd and tiny-vlm.
Every client asks, waits, checks that the answer is its own, and asks again: an image carries its
seed and its prompt in its metadata, and an answer is constrained to a word that nobody else has.
Meanwhile a process of its own asks /health every 50 ms, and the server's memory is read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import httpx
import psutil
from PIL import Image

from mindsd.app.load.verdict import percentiles
from mindsd.app.picture_record import read_record

COLOURS = ("red", "green", "blue", "yellow", "black")
SHAPES = ("circle", "square", "triangle", "star", "heart")
PATIENCE = 300.0  # seconds for one answer; nobody should wait so long
SETTLED = 0.3  # share of the time after which memory is read: models and caches are warm


@dataclass
class Seen:
    """What the clients saw.

    Attributes:
        right: answers that were the client's own, by kind, and how long each took.
        wrong: those that were somebody else's.
        lost: those that never came, by cause.
        health: seconds that /health took.
        memory: (seconds, bytes) of the server.
    """

    right: dict[str, list[float]] = field(default_factory=lambda: {"image": [], "chat": []})
    wrong: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    health: list[float] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)


@contextmanager
def served(threads: int) -> Iterator[tuple[psutil.Process, str]]:
    """A server, and its address."""
    command = [str(Path(sys.executable).parent / "mindsd"), "serve", "--port", "0", "--no-page"]
    command += ["--preload", "tiny-sd", "--preload", "tiny-vlm", "--max-requests", "512"]
    environment = {**psutil.Process().environ(), "OMP_NUM_THREADS": str(threads)}
    log = tempfile.NamedTemporaryFile(prefix="soak-server-", suffix=".log", delete=False)
    with log:
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
    try:
        assert started.stdout is not None
        address = started.stdout.readline().decode().strip()
        if not address:
            sys.exit(f"the server did not start; see {log.name}")
        yield psutil.Process(started.pid), address
    finally:
        started.terminate()
        started.wait(60)


async def image(client: httpx.AsyncClient, chance: random.Random, seen: Seen) -> None:
    """Ask for one, and see whether it is ours."""
    prompt = f"a {chance.choice(COLOURS)} {chance.choice(SHAPES)}"
    seed, began = chance.randrange(2**40), time.perf_counter()
    body = {"model": "tiny-sd", "prompt": prompt, "seed": seed, "steps": 8}
    answer = await client.post("/v1/images/generations", json=body)
    if not answer.is_success:
        seen.lost[f"image {answer.status_code}"] += 1
        return
    data = answer.json()["data"][0]["b64_json"]
    if await asyncio.to_thread(is_ours, data, prompt, seed):  # not on the loop that asks /health
        seen.right["image"].append(time.perf_counter() - began)
    else:
        seen.wrong += 1


def is_ours(data: str, prompt: str, seed: int) -> bool:
    """Whether a picture is whole and says that it was made so."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        file.write(b64decode(data))
        file.flush()
        record = read_record(file.name)
        with Image.open(file.name) as picture:
            picture.load()
    made = None if record is None else (record.parameters.prompt, record.parameters.seed)
    return made == (prompt, seed)


async def chat(client: httpx.AsyncClient, chance: random.Random, seen: Seen) -> None:
    """Ask for a word of our own."""
    word, began = f"{chance.randrange(2**40):x}", time.perf_counter()
    body = {
        "model": "tiny-vlm",
        "messages": [{"role": "user", "content": "What colour is the circle?"}],
        "choice": [word],
        "max_tokens": 64,
    }
    answer = await client.post("/v1/chat/completions", json=body)
    if not answer.is_success:
        seen.lost[f"chat {answer.status_code}"] += 1
    elif answer.json()["choices"][0]["message"]["content"] != word:
        seen.wrong += 1
    else:
        seen.right["chat"].append(time.perf_counter() - began)


async def user(client: httpx.AsyncClient, number: int, until: float, seen: Seen) -> None:
    """Asks and waits and asks again."""
    chance = random.Random(number)
    while time.perf_counter() < until:
        try:
            await (image if chance.random() < 0.5 else chat)(client, chance, seen)
        except httpx.HTTPError as error:
            seen.lost[type(error).__name__] += 1


def probe(address: str, seconds: float) -> list[float]:
    """What /health takes; in a process of its own, where the clients' work does not count."""
    taken, until = [], time.perf_counter() + seconds
    with httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as client:
        while (began := time.perf_counter()) < until:
            assert client.get("/health").json() == {"status": "ok"}
            taken.append(time.perf_counter() - began)
            time.sleep(0.05)
    return taken


async def watch(server: psutil.Process, seen: Seen) -> None:
    """Memory, until it is cancelled."""
    start = time.perf_counter()
    while True:
        await asyncio.sleep(1)
        seen.memory.append((time.perf_counter() - start, server.memory_info().rss))


async def leave(client: httpx.AsyncClient, number: int) -> None:
    """Ask for much, streamed or not, and go away before it is there."""
    chance = random.Random(number)
    stream = chance.random() < 0.5
    if chance.random() < 0.5:
        path, body = "/v1/images/generations", {"model": "tiny-sd", "prompt": "a", "steps": 900}
    else:
        said = [{"role": "user", "content": "What colour is the circle?"}]
        path, body = "/v1/chat/completions", {"model": "tiny-vlm", "messages": said, "n": 8}
        body |= {"min_tokens": 200, "max_tokens": 200}
    with suppress(httpx.TimeoutException):
        await client.post(path, json=body | {"stream": stream}, timeout=chance.uniform(0.02, 0.5))


async def figure(client: httpx.AsyncClient, name: str) -> float:
    """One of /metrics."""
    told = (await client.get("/metrics")).text
    return float(next(line for line in told.splitlines() if line.startswith(f"{name} ")).split()[1])


async def settled(client: httpx.AsyncClient) -> float:
    """Seconds until nothing is in hand any more."""
    began = time.perf_counter()
    while await figure(client, "mindsd:num_places_taken") or await figure(
        client, "mindsd:num_requests_running"
    ):
        if time.perf_counter() - began > PATIENCE:
            sys.exit("what nobody waits for any more still runs")
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


async def soak(address: str, server: psutil.Process, options: argparse.Namespace) -> dict:
    """Both parts; the figures."""
    limits = httpx.Limits(max_connections=None)
    seen = Seen()
    pool = ProcessPoolExecutor(1, get_context("spawn"))
    async with httpx.AsyncClient(
        base_url=address, limits=limits, timeout=PATIENCE, trust_env=False
    ) as client:
        watching = asyncio.create_task(watch(server, seen))
        loop = asyncio.get_running_loop()
        probing = loop.run_in_executor(pool, probe, address, options.seconds)
        until = time.perf_counter() + options.seconds
        await asyncio.gather(*(user(client, n, until, seen) for n in range(options.clients)))
        seen.health = await probing
        watching.cancel()
        before = server.memory_info().rss
        for first in range(0, options.disconnects, 20):
            numbers = range(first, min(first + 20, options.disconnects))
            await asyncio.gather(*(leave(client, number) for number in numbers))
        cleaned = await settled(client)
        last = Seen()
        await chat(client, random.Random(-1), last)
        await image(client, random.Random(-1), last)
    assert last.right["chat"] and last.right["image"], "it does not answer after the disconnects"
    return told(seen, options, cleaned, server.memory_info().rss - before)


def told(seen: Seen, options: argparse.Namespace, cleaned: float, grown: int) -> dict:
    """The figures by name."""
    start = SETTLED * options.seconds
    warm = [(at, own) for at, own in seen.memory if at >= start]
    slope = statistics.linear_regression(*zip(*warm, strict=True)).slope if len(warm) > 2 else 0.0
    p50, p90, p99 = percentiles(seen.health)
    figures: dict = {"clients": options.clients, "seconds": options.seconds}
    for kind, times in seen.right.items():
        figures[f"{kind}s answered"] = len(times)
        if times:
            figures[f"{kind} p50 p90 p99 s"] = [round(own, 3) for own in percentiles(times)]
    return figures | {
        "wrong owner": seen.wrong,
        "lost": dict(seen.lost),
        "health p50 p90 p99 ms": [round(1000 * own, 1) for own in (p50, p90, p99)],
        "memory, first and last MiB": [own // 2**20 for _, own in (warm[:1] + warm[-1:])],
        "memory slope MiB/min": round(slope * 60 / 2**20, 2),
        "disconnects": options.disconnects,
        "cleaned up after s": round(cleaned, 2),
        "memory grown by disconnects MiB": grown // 2**20,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="A server under many users.")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--disconnects", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with served(options.threads) as (server, address):
        figures = asyncio.run(soak(address, server, options))
    for name, value in figures.items():
        print(f"{name:32} {value if not isinstance(value, dict) else json.dumps(value)}")
    if figures["lost"] or figures["wrong owner"]:
        sys.exit(1)


if __name__ == "__main__":
    main()

"""What is counted and timed, for Prometheus; names are like vLLM's, with `mindsd:` before them.

Everything is heard from the jobs' own events, on the event loop; gauges are read when asked.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mindsd.pipelines.text_result import TextResult
from mindsd.request import Done, Event, Piece, Started, Step

from .job import Job
from .service import Service

LONG = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 600)  # seconds
SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, *LONG)


class Metrics:
    """The figures of one service, from now on."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._last: WeakKeyDictionary[Job, dict[Hashable, float]] = WeakKeyDictionary()
        self.registry = own = CollectorRegistry()
        told = ("kind", "model")
        self._first = _times(
            "time_to_first_token", "From a job's admission", SHORT, own, ("model",)
        )
        self._between = _times("inter_token_latency", "Between two pieces", SHORT, own, ("model",))
        self._step = _times(
            "image_step_time", "Between two denoising steps", SHORT, own, ("model",)
        )
        self._queue = _times("request_queue_time", "Until the engine began", LONG, own, told)
        self._whole = _times("e2e_request_latency", "From admission to end", LONG, own, told)
        self._ended = _count("request", "Jobs that ended, by outcome", own, (*told, "outcome"))
        self._refused = _count("request_refused", "Jobs that were not admitted", own, ("code",))
        self._images = _count("images", "Images drawn", own, ("model",))
        self._prompt = _count("prompt_tokens", "Tokens of prompts", own, ("model",))
        self._cached = _count("prefix_cache_hits", "Prompt tokens found cached", own, ("model",))
        self._drawn = _count("generation_tokens", "Tokens drawn", own, ("model",))
        own.register(Gauges(service))
        service.listeners.append(self._hear)
        service.on_over.append(self._over)
        service.on_refused.append(lambda refusal: self._refused.labels(refusal.code).inc())

    def text(self) -> bytes:
        """All of them in Prometheus' text form."""
        return generate_latest(self.registry)

    def _hear(self, job: Job, place: int, event: Event) -> None:
        now, before = time.perf_counter(), self._last.setdefault(job, {})
        if isinstance(event, Started):
            self._queue.labels(job.kind, job.model).observe(event.waited)
            before[place] = now
        elif isinstance(event, Step):
            self._step.labels(job.model).observe(now - before.get(place, now))
            before[place] = now
        elif isinstance(event, Piece):
            first = place, event.sample
            if first in before:
                self._between.labels(job.model).observe(now - before[first])
            else:
                self._first.labels(job.model).observe(now - job.began)
            before[first] = now
        elif isinstance(event, Done):
            self._done(job, event)

    def _done(self, job: Job, event: Done) -> None:
        if not isinstance(event.result, list):
            self._images.labels(job.model).inc()
            return
        texts: list[TextResult] = event.result
        self._prompt.labels(job.model).inc(texts[0].usage.prompt)
        self._cached.labels(job.model).inc(texts[0].usage.cached)
        self._drawn.labels(job.model).inc(sum(own.usage.completion for own in texts))

    def _over(self, job: Job) -> None:
        outcome = "done" if job.refusal is None else job.refusal.code
        self._ended.labels(job.kind, job.model, outcome).inc()
        self._whole.labels(job.kind, job.model).observe(time.perf_counter() - job.began)


class Gauges:
    """What is so at the moment of asking."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        service = self._service
        waiting, running = service.hub.engine.load()
        yield _gauge("num_requests_running", "Requests that the engine runs", running)
        yield _gauge("num_requests_waiting", "Requests that wait for the engine", waiting)
        yield _gauge("num_places_taken", "Requests that were admitted", service.taken)
        yield _gauge("num_places", "Requests that may be admitted", service.limits.requests)
        yield _gauge("num_models_loaded", "Models in memory", len(service.hub.loaded()))
        counts = service.hub.engine.counts
        yield _total("step_cache_skips", "Rows of denoiser calls not computed", counts.spared)
        yield _total("oom_splits", "Forwards halved for want of memory", counts.splits)
        forwards = CounterMetricFamily("mindsd:forwards", "Forwards of modules", labels=["work"])
        rows = CounterMetricFamily("mindsd:rows", "Rows of these forwards", labels=["work"])
        for work in list(counts.forwards):
            forwards.add_metric([work], counts.forwards[work])
            rows.add_metric([work], counts.rows[work])
        yield forwards
        yield rows


def _times(
    name: str, told: str, buckets: tuple[float, ...], registry: CollectorRegistry, labels: object
) -> Histogram:
    full = f"mindsd:{name}_seconds"
    return Histogram(full, f"{told}, seconds", labels, buckets=buckets, registry=registry)  # pyright: ignore


def _count(name: str, told: str, registry: CollectorRegistry, labels: tuple[str, ...]) -> Counter:
    return Counter(f"mindsd:{name}", told, labels, registry=registry)


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(f"mindsd:{name}", told, value)


def _total(name: str, told: str, value: float) -> Metric:
    return CounterMetricFamily(f"mindsd:{name}", told, value)

"""A run through the engine: company after company, each picture kept when it is done.

Imports torch and diffusers; the command imports this file when it runs.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from mindsd.errors import Cancelled, EngineClosed, MindsdError
from mindsd.pipelines.fingerprint import fingerprint
from mindsd.pipelines.image import ImagePipeline
from mindsd.pipelines.image_to_image import ImageToImage
from mindsd.pipelines.inpaint import Inpaint
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.model import LoadedModel
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.picture import read_picture
from mindsd.pipelines.text_to_image import TextToImage
from mindsd.request import Done, Event, Failed, Need, Notice, Request, Step, follow

from ..drawing import settle
from ..error_line import one_line
from ..interrupt import Interrupt
from ..picture_encoding import PNG
from ..picture_record import Record
from ..progress import Place
from ..recording import place_of, record_of
from ..repetition import file_hash
from ..typed_prompt import TypedPrompts
from .company import Company
from .order import BatchOrder
from .plan import Job
from .progress import Quiet, RunTally
from .run_folder import RunFolder

KINDS: dict[frozenset[str], type[ImagePipeline]] = {
    frozenset(): TextToImage,
    frozenset({"image"}): ImageToImage,
    frozenset({"image", "mask_image"}): Inpaint,
}


class DrawingRun:
    """What draws a run's companies and keeps its pictures."""

    def __init__(self, order: BatchOrder, folder: RunFolder, tally: RunTally, progress: Quiet):
        self._order, self._folder = order, folder
        self._tally, self._progress = tally, progress
        self._noted: set[str] = set()

    def run(self, companies: Sequence[Company], interrupt: Interrupt) -> None:
        """Draw all, one model after the other; a signal cancels what is not finished yet.

        Raises:
            ModelError, RequestError: the only model cannot be loaded.
            OutputError: the disk is full.
            KeyboardInterrupt: a signal came while a model was loading.
        """
        models = dict.fromkeys(company.jobs[0].asked.model for company in companies)
        for model in models:
            own = [one for one in companies if one.jobs[0].asked.model == model]
            if self._tally.stopping:
                return
            interrupt.on_signal = None
            self._progress.loading(Path(model).resolve().name)
            try:
                order = self._order
                where = (order.device, order.dtype, order.attention, order.layers)
                loaded = load_model(model, *where, order.vae)
            except MindsdError as error:
                if len(models) == 1:
                    raise
                for company in own:
                    self._all_failed(company, error)
                continue
            interrupt.check()
            typed = TypedPrompts(order.loras, order.weighted)
            with ModelRun(loaded, typed, order.force) as drawing:
                self._progress.loaded(drawing.place, self._tally)
                for company in own:
                    if not interrupt.requested:
                        self._draw(drawing, company, interrupt)

    def _draw(self, drawing: ModelRun, company: Company, interrupt: Interrupt) -> None:
        """Draw one company, its images side by side from the first step to the last."""
        requests: dict[Request, Job] = {}

        def stop() -> None:
            self._tally.stopping = True
            for request in list(requests):
                request.cancel()

        interrupt.on_signal = stop
        self._tally.start()
        self._folder.begin([job.key for job in company.jobs], sorted(company.missing))
        with drawing.held(company):
            for job in company.jobs:
                try:
                    requests[drawing.submit(job)] = job
                except EngineClosed:
                    raise
                except Exception as error:  # of an image: the others know nothing
                    self._failed(job, company, error)
        if interrupt.requested:  # the signal may have come before the last one was noted
            stop()
        parts: dict[Request, float] = {}
        for request, event in follow(list(requests)):
            if isinstance(event, Step):
                parts[request] = event.done / event.total
            elif isinstance(event, Done | Failed):
                parts.pop(request, None)
            share = len(company.missing) / len(company.jobs)
            self._tally.part = share * sum(parts.values())
            self._take(drawing, requests[request], company, event)
            self._progress.doing(self._tally)

    def _take(self, drawing: ModelRun, job: Job, company: Company, event: Event) -> None:
        if isinstance(event, Notice) and event.text not in self._noted:
            self._noted.add(event.text)
            self._progress.noted(f"note: {event.text}")
        elif isinstance(event, Done) and job.key in company.missing:
            record = drawing.record(job)
            facts = {
                "line": job.line,
                "model": record.model,
                "seconds": round(event.seconds / len(company.jobs), 4),
                "parameters": told(record.parameters),
                "grid": dict(job.cell),
            }
            path = self._folder.add(job, PNG.encode(event.result, record), facts)
            self._tally.done += 1
            self._progress.written(path, job.key, job.asked.parameters.seed, self._tally)
        elif isinstance(event, Failed) and not isinstance(event.error, Cancelled):
            self._failed(job, company, event.error)

    def _failed(self, job: Job, company: Company, error: BaseException) -> None:
        if job.key in company.missing:
            reason = one_line(error)
            self._folder.failed(job.key, job.line, reason)
            self._tally.failed += 1
            self._tally.causes[reason] += 1
            self._progress.failed(job.line, reason)

    def _all_failed(self, company: Company, error: BaseException) -> None:
        for job in company.jobs:
            self._failed(job, company, error)


class ModelRun:
    """One loaded model and the pipelines that a run needs of it."""

    def __init__(self, model: LoadedModel, typed: TypedPrompts, force: bool = False):
        self._model, self._typed, self._force = model, typed, force
        self._pipelines: dict[type[ImagePipeline], ImagePipeline] = {}
        self._open = ExitStack()

    def __enter__(self) -> ModelRun:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    @property
    def place(self) -> Place:
        """Where the model is."""
        return place_of(self._model)

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self._model.pipe)

    def held(self, company: Company) -> ExitStack:
        """While entered the engine begins nothing, so that all of a company begin together."""
        entered, gate, held = threading.Event(), threading.Event(), ExitStack()

        def hold(request: Request) -> None:
            entered.set()
            gate.wait()

        held.callback(gate.set)
        self._pipeline(company.jobs[0]).engine.submit(hold, Need(rows=0))
        entered.wait()  # whoever is submitted before it is there would be let in beside it
        return held

    def submit(self, job: Job) -> Request:
        """Ask for one image.

        Raises:
            RequestError: the model cannot do what is asked, a picture cannot be read, or the
                profile is another model's.
        """
        if job.asked.profile is not None:
            job.asked.profile.acceleration_for(self._fingerprint, force=self._force)
        pictures: dict[str, Any] = dict(job.asked.pictures)
        return self._pipeline(job).submit(self._taken(job), **pictures)

    def record(self, job: Job) -> Record:
        """How an image was made, with the model's own choices."""
        given = job.asked.pictures.get("image")
        picture = None if given is None else read_picture(given)
        whole = settle(self._pipeline(job), self._taken(job), picture)
        hashes = {name: file_hash(Path(file)) for name, file in job.asked.pictures.items()}
        return record_of(self._model, whole, hashes)

    def _taken(self, job: Job) -> ImageParameters:
        return self._typed.taken(self._pipeline(job), job.asked.parameters)

    def _pipeline(self, job: Job) -> ImagePipeline:
        kind = KINDS[frozenset(job.asked.pictures)]
        if kind not in self._pipelines:
            self._pipelines[kind] = self._open.enter_context(kind(self._model))
        return self._pipelines[kind]


def told(parameters: ImageParameters) -> dict[str, object]:
    """Parameters as JSON: what is not left open."""
    whole = {**asdict(parameters), "acceleration": parameters.acceleration.as_json()}
    nothing = (None, {}, (), [])
    return {k: v for k, v in whole.items() if v not in nothing and v is not False}

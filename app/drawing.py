"""An order through the engine: load, submit everything, write each image when it is done.

Imports torch and diffusers; the commands import this file when they run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mindsd.errors import Cancelled, OutputError, RequestError
from mindsd.pipelines.fingerprint import fingerprint
from mindsd.pipelines.image import ImagePipeline
from mindsd.pipelines.image_to_image import ImageToImage
from mindsd.pipelines.inpaint import Inpaint
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.picture import read_picture
from mindsd.pipelines.profile import Profile
from mindsd.pipelines.text_to_image import TextToImage
from mindsd.request import Done, Event, Failed, Notice, Preview, Request, follow

from .error_line import one_line
from .interrupt import Interrupt
from .options import Order
from .output import OutputFolder
from .picture_encoding import PNG
from .picture_record import Record
from .progress import Place, Reporter
from .recording import place_of, record_of
from .repetition import differences, file_hash
from .tally import Job, Tally
from .typed_prompt import TypedPrompts

IN_HAND = 256  # images submitted at once: more than any batch takes, few enough to hold in memory


def draw(order: Order, output: OutputFolder, reporter: Reporter, interrupt: Interrupt) -> Tally:
    """Draw an order and write its images; how it went.

    Raises:
        RequestError, ModelError: the model cannot do what is asked; nothing was drawn.
        OutputError: the disk is full; says how much was written before.
        KeyboardInterrupt: a signal came before drawing began.
    """
    with _load(order) as pipeline:
        interrupt.check()
        drawing = Drawing(pipeline, order, output, reporter)
        reporter.loaded(drawing.place, drawing.tally)
        if order.tuned is not None:
            drawing.check(order.tuned, order.force)
        if order.repeats is not None:
            drawing.compare(order.repeats, order.force)
        try:
            drawing.run(interrupt)
        except OutputError as error:
            tally = drawing.tally
            said = f"{error}; {tally.written} of {tally.images} images were written"
            raise OutputError(said) from error
        return drawing.tally


class Drawing:
    """One order on one loaded pipeline."""

    def __init__(
        self, pipeline: ImagePipeline, order: Order, output: OutputFolder, reporter: Reporter
    ):
        self._pipeline = pipeline
        self._preview_every = order.preview_every
        self._output = output
        self._reporter = reporter
        repeated = None if order.repeats is None else order.repeats.parameters.weighted
        self._typed = TypedPrompts(
            order.loras, repeated if order.weighted is None else order.weighted
        )
        self._encoding = order.encoding
        self._hashes = {name: file_hash(file) for name, file in order.pictures.items()}
        self._pictures: dict[str, Any] = {
            name: read_picture(file) for name, file in order.pictures.items()
        }
        self.tally = Tally(self._jobs(order.asked), len(order.asked))
        for job in self.tally.jobs:
            self._encoding.check(self._record(job))
        advice = [self._typed.advice(job.asked) for job in self.tally.jobs]
        for said in dict.fromkeys(filter(None, advice)):
            reporter.noted(said)

    def _jobs(self, asked: list[ImageParameters]) -> list[Job]:
        picture = self._pictures.get("image")
        jobs = []
        for number, typed in enumerate(asked, 1):
            one = self._typed.taken(self._pipeline, typed)
            whole = settle(self._pipeline, one, picture)
            jobs.append(Job(number, one, whole, whole.steps or 1))
        return jobs

    @property
    def place(self) -> Place:
        """Where the model is."""
        return place_of(self._pipeline.model)

    def check(self, profile: Profile, force: bool) -> None:
        """See that a profile is this model's; tell what else differs from when it was tuned.

        Raises:
            RequestError: it is another model's, and `force` does not say to use it all the same.
        """
        profile.acceleration_for(fingerprint(self._pipeline.pipe), force=force)
        first, place = self.tally.jobs[0].parameters, self.place
        names = ("steps", "guidance", "scheduler", "width", "height")
        now = {name: getattr(first, name) for name in names}
        changed = profile.elsewhere(**now, device=place.device, dtype=place.dtype)
        if changed:
            told = f"the profile was tuned at {'; '.join(changed)}"
            self._reporter.noted(f"{told}: time and likeness may differ from what it says")

    def compare(self, record: Record, force: bool) -> None:
        """Tell why a picture may come out otherwise than the record's.

        Raises:
            RequestError: another model of the same name drew it, and `force` is not said.
        """
        if told := differences(record, self._record(self.tally.jobs[0]), force):
            self._reporter.noted(f"the image may differ: {'; '.join(told)}")

    def run(self, interrupt: Interrupt) -> None:
        """Draw all; a signal cancels what is not finished yet."""
        jobs = self.tally.jobs
        for first in range(0, len(jobs), IN_HAND):
            self._draw(jobs[first : first + IN_HAND], interrupt)

    def _draw(self, jobs: list[Job], interrupt: Interrupt) -> None:
        requests: dict[Request, Job] = {}

        def stop() -> None:
            self.tally.stopping = True
            for request in requests:
                request.cancel()

        interrupt.on_signal = stop
        for job in jobs:
            if not interrupt.requested:
                requests[self._submit(job)] = job
        if interrupt.requested:  # the signal may have come before the last one was noted
            stop()
        for request, event in follow(list(requests)):
            self._take(requests[request], event)

    def _submit(self, job: Job) -> Request:
        return self._pipeline.submit(job.asked, preview_every=self._preview_every, **self._pictures)

    def _take(self, job: Job, event: Event) -> None:
        self.tally.update(job, event)
        if isinstance(event, Preview):
            path = self._output.put(f"preview-{job.number:04d}.png", PNG.encode(event.image))
            self._reporter.previewed(job, event.step, path)
        elif isinstance(event, Notice):
            self._reporter.noticed(job, event.text)
        elif isinstance(event, Done):
            content = self._encoding.encode(event.result, self._record(job))
            path = self._output.add(content, self._encoding.ending)
            self.tally.written += 1
            self._reporter.written(job, path, event.seconds)
        elif isinstance(event, Failed) and not isinstance(event.error, Cancelled):
            self.tally.failed += 1
            self._reporter.failed(job, one_line(event.error))
        self._reporter.told(job, event)

    def _record(self, job: Job) -> Record:
        return record_of(self._pipeline.model, job.parameters, self._hashes)


def settle(
    pipeline: ImagePipeline, parameters: ImageParameters, picture: Any = None
) -> ImageParameters:
    """The parameters with the model's own choices in place of None, for the record."""
    default = pipeline.arguments.default
    scheduler = getattr(pipeline.pipe, "scheduler", None)
    fits = type(scheduler) in getattr(scheduler, "compatibles", [])
    chosen = {
        "steps": default("num_inference_steps"),
        "guidance": default(pipeline.arguments.guidance_name),
        "strength": default("strength"),
        "scheduler": type(scheduler).__name__ if fits else None,
    }
    whole = pipeline.complete(parameters, picture)
    missing = {k: v for k, v in chosen.items() if v is not None and getattr(whole, k) is None}
    return replace(whole, **missing)


def _load(order: Order) -> ImagePipeline:
    names = ("device", "dtype", "attention", "layers", "vae")
    where = {name: getattr(order, name) for name in names}
    try:
        return _kind(order).load(order.model, **where)
    except RequestError as error:
        if order.repeats is None or order.repeats.device != order.device:
            raise
        raise RequestError(f"{error}; the image to repeat was drawn there: say --device") from None


def _kind(order: Order) -> type[ImagePipeline]:
    if order.mask is not None:
        return Inpaint
    return ImageToImage if order.image is not None else TextToImage

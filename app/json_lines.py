"""What a run tells machines: one JSON object per line on stdout, each with its "event"."""

from __future__ import annotations

import json
from pathlib import Path

from mindsd.errors import MindsdError
from mindsd.request import Event, Queued, Started, Step

from .progress import Place, Reporter
from .tally import Job, Tally


class JsonLines(Reporter):
    """Of the run: loading, loaded, note, done, error; with an image's number and seed: the rest.

    queued, started, notice, step, preview, then image or failed. Times are seconds.
    """

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MindsdError):
            self._say("error", error=type(error).__name__, message=" ".join(str(error).split()))

    def loading(self, model: str) -> None:
        super().loading(model)
        self._say("loading", model=model)

    def loaded(self, place: Place, tally: Tally) -> None:
        super().loaded(place, tally)
        self._say(
            "loaded",
            model=place.model,
            device=place.device,
            dtype=place.dtype,
            images=tally.images,
            seconds=self.loading_seconds(),
        )

    def noted(self, text: str) -> None:
        self._say("note", text=text)

    def told(self, job: Job, event: Event) -> None:
        if isinstance(event, Queued):
            self._tell("queued", job, prompt=job.parameters.prompt, ahead=event.ahead)
        elif isinstance(event, Started):
            self._tell("started", job, waited=event.waited)
        elif isinstance(event, Step):
            self._tell("step", job, done=event.done, total=event.total, seconds=event.seconds)

    def noticed(self, job: Job, text: str) -> None:
        self._tell("notice", job, text=text)

    def previewed(self, job: Job, step: int, path: Path) -> None:
        self._tell("preview", job, step=step, path=str(path))

    def written(self, job: Job, path: Path, seconds: float) -> None:
        self._tell("image", job, path=str(path), seconds=seconds)

    def failed(self, job: Job, reason: str) -> None:
        super().failed(job, reason)
        self._tell("failed", job, reason=reason)

    def ended(self, tally: Tally, seconds: float) -> None:
        super().ended(tally, seconds)
        self._say(
            "done",
            images=tally.images,
            written=tally.written,
            failed=tally.failed,
            cancelled=tally.stopping,
            seconds=seconds,
        )

    def _tell(self, event: str, job: Job, **facts: object) -> None:
        self._say(event, image=job.number, seed=job.parameters.seed, **facts)

    def _say(self, event: str, **facts: object) -> None:
        short = {k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items()}
        print(json.dumps({"event": event, **short}), flush=True)

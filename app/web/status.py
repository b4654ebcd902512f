"""What runs, in HTML: state, steps, steps a second, time left, place in the queue, rough pictures.

Gradio's own progress vanishes where other things stream, and knows of no queue.
"""

from __future__ import annotations

import io
import time
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from ..server.service import Service

if TYPE_CHECKING:
    from .run import Run

ROUGH = 384  # pixels of a rough picture's longer side: it is shown larger than it is
ROUGHS = 4  # shown at a time


def status(runs: Sequence[Run], service: Service) -> str:
    """The live ones, else the last one that ended."""
    live = [run for run in runs if not run.over]
    if live:
        return "".join(_live(run, service) for run in live)
    return _ended(runs[-1]) if runs else ""


def roughs(runs: Sequence[Run]) -> str:
    """Rough pictures of what is being drawn; empty for none."""
    shown = [own for run in runs for own in sorted(run.roughs.items())][:ROUGHS]
    tags = (
        f'<img class="rough" alt="rough picture of image {place + 1}" src="{url}">'
        for place, url in shown
    )
    return f'<div class="roughs">{"".join(tags)}</div>' if shown else ""


def progress(label: str, done: int, total: int) -> str:
    """A bar; without a known total one that only moves."""
    value = f'value="{done}" max="{total}"' if total else ""
    return f'<progress aria-label="{escape(label)}" {value}></progress>'


def line(text: str, kind: str = "") -> str:
    """A sentence that screen readers say when it changes."""
    return f'<p class="said {kind}" role="status">{escape(text)}</p>'


def images(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"


def _live(run: Run, service: Service) -> str:
    number = len(run.task.asked)
    done, total = sum(own[0] for own in run.job.steps), _total(run)
    if run.job.refusal is not None:
        said = "Stopping"
    elif run.job.state == "queued":
        before = service.place(run.job)
        said = f"{images(number)}: waiting" + (f", {before} before it" if before else "")
    elif total and done >= total:
        said = f"{images(number)}: finishing"
    else:
        said = f"Drawing {images(number)}"
    facts = [f"step {done} of {total}"] if total else []
    if run.begun is not None and done:
        rate = done / max(time.monotonic() - run.begun, 1e-6)
        facts += [f"{rate:.3g} it/s", f"{_span((total - done) / rate)} left"]
    prompt = run.task.body.prompt
    return (
        f'<section class="run" aria-label="{escape(prompt[:80])}">{line(said)}'
        f'<p class="facts">{escape(" · ".join(facts)) or "&nbsp;"}</p>'
        f"{progress('steps', done, total)}</section>"
    )


def _ended(run: Run) -> str:
    state = run.job.state
    said = {"done": "Done", "cancelled": "Cancelled", "failed": "Failed"}.get(state, state)
    if run.files:
        said += f": {images(len(run.files))}"
        said += f" in {_span(run.seconds)}" if run.seconds is not None else ""
    if run.trouble is not None and state != "cancelled":
        said += f": {run.trouble}"
    seeds = run.seeds
    told = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    notices = "".join(f'<p class="facts">{escape(text)}</p>' for text in run.notices)
    facts = f'<p class="facts">{told}</p>' if run.files else ""
    return f'<section class="run">{line(said, state)}{facts}{notices}</section>'


def _total(run: Run) -> int:
    """Steps of all its images; 0 while not even one's are known."""
    known = [total for _, total in run.job.steps if total]
    return sum(total or max(known) for _, total in run.job.steps) if known else 0


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def rough(image: Image.Image) -> str:
    """A rough picture as a URL that holds it."""
    scale = ROUGH / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode('ascii')}"

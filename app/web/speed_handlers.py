"""What happens when something of the speed tab is used. One object for all pages of a server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from html import escape
from typing import Any

import gradio as gr

from ..server.model_choice import choose_model
from ..server.refusal import Refusal
from .comparison import PHASES, Comparison
from .image_form import body_of
from .plot import Point, plot
from .status import line, progress
from .studio import Desk, Studio
from .toast import toasts, warn
from .tuned import table

FIELDS = ("prompt", "model", "steps", "guidance", "seed")
MOST = 30  # comparisons that are kept
PAUSE = 0.1


class SpeedHandlers:
    """Methods take and give the values of Gradio's components."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def models(self) -> list[str]:
        return self._studio.models("image")

    async def compare(self, desk_id: Any, speed: str, *values: Any) -> str:
        """Begin to draw plainly and with this speed; the desk's id."""
        desk, service = self._studio.desk(desk_id), self._studio.service
        with toasts():
            if desk.compares:
                raise Refusal(409, "busy", "a comparison runs; wait for it, or cancel it")
            body = body_of({**dict(zip(FIELDS, values, strict=True)), "speed": speed})
            body = body.model_copy(update={"partial_images": 0, "seed": body.asked()[0].seed})
            own = Comparison(body, speed)
            desk.comparisons = [*desk.comparisons[1 - MOST :], own]
            try:
                entry = await asyncio.to_thread(choose_model, service.hub, body.model, "image")
            except BaseException:
                desk.comparisons.remove(own)
                raise
            self._studio.spawn(own.run(service, entry.id, desk.changed))
        return desk.id

    async def watch(self, desk_id: Any) -> AsyncIterator[tuple[Any, Any, Any]]:
        """State, the two images, and the plot, until nothing is compared any more."""
        desk, done = self._studio.desk(desk_id), -1
        while True:
            change, busy = desk.change, desk.compares
            finished = [own for own in desk.comparisons if own.is_done]
            if len(finished) != done:
                done = len(finished)
                drawn = await asyncio.to_thread(self._plot, finished)
                pair = tuple(finished[-1].images) if finished else None
                yield _state(desk), pair, drawn
            else:
                yield _state(desk), gr.skip(), gr.skip()
            if not busy:
                break
            await asyncio.sleep(PAUSE)
            await change.wait()
        last = desk.comparisons[-1:]
        for own in last:
            if own.trouble is not None and not own.told:
                own.told = True
                warn(own.trouble)

    def cancel(self, desk_id: Any) -> None:
        for own in self._studio.desk(desk_id).comparisons:
            if not own.over:
                own.cancel()

    def profiles(self) -> str:
        """The table of the profiles."""
        return table(self._studio.tuned())

    def _plot(self, finished: Sequence[Comparison]) -> str:
        tuned = [
            Point(own.id, "tuned", own.saved, own.profile.measured.ssim)
            for own in self._studio.tuned()
        ]
        drawn = [Point(own.speed, "drawn here", own.saved, own.ssim) for own in finished]
        return plot(tuned + drawn)


def _state(desk: Desk) -> str:
    if not desk.comparisons:
        return ""
    own = desk.comparisons[-1]
    if own.trouble is not None:
        return line(own.trouble[:1].upper() + own.trouble[1:], "failed")
    if not own.over:
        done, total = own.job.steps[0] if own.job is not None and own.job.steps else (0, 0)
        said = PHASES[own.phase].capitalize()
        return f"{line(said)}{progress(PHASES[own.phase], done, total)}"
    return line("Done", "done") + _figures(own)


def _figures(own: Comparison) -> str:
    plain, fast = own.seconds
    likeness = "equal" if math.isinf(own.psnr) else f"{own.psnr:.1f} dB"
    pairs = {
        "Plain": f"{plain:.2f} s",
        own.speed.capitalize(): f"{fast:.2f} s",
        "Faster": f"{plain / fast:.2f}x",
        "PSNR": likeness,
        "SSIM": f"{own.ssim:.4f}",
        "Seed": str(own.plain.seed),
    }
    rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs.items())
    return f'<dl class="figures">{rows}</dl>'

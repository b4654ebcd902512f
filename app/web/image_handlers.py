"""What happens when something of the image tab is used. One object for all pages of a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import gradio as gr

from ..samplers import KNOWN
from .canvas import files_of
from .exhibit import Shown
from .facts import facts
from .image_form import LORAS, OWN, body_of, form_of
from .run import Run
from .status import roughs, status
from .studio import Desk, Studio
from .toast import toasts, warn

FIELDS = (
    *("prompt", "negative_prompt", "model", "speed", "size", "n", "steps", "guidance"),
    *("seed", "scheduler", "weighted", "strength"),
)
NO_CHOICE = "choose a picture first"
PAUSE = 0.5  # seconds between two looks at what runs; each has Gradio's editor send its picture


class ImageHandlers:
    """Methods take and give the values of Gradio's components."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def models(self) -> list[str]:
        return self._studio.models("image")

    async def draw(self, desk_id: Any, canvas: Any, names: list[str] | None, *values: Any) -> str:
        """Begin to draw what the form says.

        Args:
            names: of LoRAs; their weights come after the values of `FIELDS`.
        """
        fields, weights = dict(zip(FIELDS, values, strict=False)), values[len(FIELDS) :]
        fields["loras"] = dict(zip(names or (), map(_number, weights), strict=False))
        desk = self._studio.desk(desk_id)
        with toasts():
            files = await asyncio.to_thread(files_of, canvas)
            if not files:
                fields["strength"] = None
            await self._studio.draw(desk, body_of(fields), files)
        return desk.id

    async def watch(self, desk_id: Any) -> AsyncIterator[tuple[Any, ...]]:
        """What runs, as it goes on, and the pictures, until nothing runs any more.

        Yields:
            status, rough pictures, viewer, names in it, the chosen name, facts, file to download,
            history, names in it.
        """
        desk, seen, rough = self._studio.desk(desk_id), None, ""
        while True:
            change, live = desk.change, bool(desk.live)
            files = [path for run in desk.runs for path in run.files.values()]
            said, before, rough = status(desk.runs, self._studio.service), rough, roughs(desk.runs)
            news = gr.skip() if rough == before and seen is not None else rough
            if files != seen:
                seen = files
                yield said, news, *(await self._pictures(desk))
            else:
                yield said, news, *([gr.skip()] * 7)
            for run in desk.runs:
                _tell(run)
            if not live:
                return
            await asyncio.sleep(PAUSE)
            await change.wait()

    def cancel(self, desk_id: Any) -> None:
        """Stop what draws, else what waits for longest."""
        for run in self._studio.desk(desk_id).live[:1]:
            run.job.cancel()

    def cancel_all(self, desk_id: Any) -> None:
        for run in self._studio.desk(desk_id).live:
            run.job.cancel()

    async def pick(self, names: list[str], chosen: gr.SelectData) -> tuple[Any, ...]:
        """A picture of the history was chosen: it alone is shown."""
        shown = await asyncio.to_thread(self._studio.exhibit.show, _at(names, chosen.index))
        if shown is None:
            raise gr.Error("that picture is gone", print_exception=False)
        viewer, *others = await self._view([shown])
        return viewer | {"elem_classes": ["kept"]}, *others

    async def choose(self, names: list[str], chosen: gr.SelectData) -> tuple[Any, ...]:
        """One of the pictures that are shown was chosen."""
        shown = await asyncio.to_thread(self._studio.exhibit.show, _at(names, chosen.index))
        if shown is None:
            raise gr.Error("that picture is gone", print_exception=False)
        return (await self._view([shown]))[2:]

    async def reuse(self, name: str | None) -> list[Any]:
        """The chosen picture's settings, for the form: `FIELDS`, LoRAs, their weights."""
        if not name:
            raise gr.Error(NO_CHOICE, print_exception=False)
        record = await asyncio.to_thread(self._studio.exhibit.record, name)
        if record is None:
            raise gr.Error("nothing is known of how it was made", print_exception=False)
        form = form_of(record)
        if form["speed"] is None:
            warn(f"its acceleration is no preset: {record.parameters.acceleration.as_json()}")
        if len(form["loras"]) > LORAS:
            warn(f"it has {len(form['loras'])} LoRAs; the form takes the first {LORAS}")
        if record.pictures:
            warn("it was drawn from another picture, which its file does not hold")
        names, known = list(form["loras"])[:LORAS], self.models()
        form["model"] = form["model"] if form["model"] in known else gr.skip()
        form["strength"] = gr.skip() if form["strength"] is None else form["strength"]
        return [*(form[field] for field in FIELDS), names, *self.weights(names, form["loras"])]

    def weights(self, names: list[str] | None, given: dict[str, float] | None = None) -> list[Any]:
        """One number for each LoRA that is chosen."""
        chosen = list(names or ())
        shown = [
            gr.update(visible=True, label=f"Weight of {name}", value=(given or {}).get(name, 1.0))
            for name in chosen[:LORAS]
        ]
        return shown + [gr.update(visible=False)] * (LORAS - len(shown))

    def sampler(self, chosen: str | None) -> str:
        """After another model was chosen: a scheduler that only the last one knew is left."""
        return chosen if chosen and KNOWN.get(chosen.lower()) else OWN

    async def file(self, name: str | None) -> str:
        """The chosen picture's file, for another part of the page."""
        shown = await asyncio.to_thread(self._studio.exhibit.show, name or "")
        if shown is None:
            raise gr.Error(NO_CHOICE, print_exception=False)
        return shown.file

    async def _pictures(self, desk: Desk) -> tuple[Any, ...]:
        history = await asyncio.to_thread(self._studio.exhibit.newest)
        drawn = [run for run in desk.runs if run.files]
        names = [path.name for _, path in sorted(drawn[-1].files.items())] if drawn else []
        shown = [own for name in names for own in history if own.name == name] or history[:1]
        small = gr.update(value=[own.thumbnail for own in history], selected_index=None)
        return *(await self._view(shown)), small, [own.name for own in history]

    async def _view(self, shown: Sequence[Shown]) -> tuple[Any, ...]:
        """Viewer, names, the chosen name, facts, file to download."""
        if not shown:
            return gr.update(value=[]), [], None, "", gr.update(value=None, interactive=False)
        first = shown[0]
        record = await asyncio.to_thread(self._studio.exhibit.record, first.name)
        viewer = gr.update(
            value=[(own.file, own.name) for own in shown], selected_index=0, elem_classes=[]
        )
        names = [own.name for own in shown]
        download = gr.update(value=first.file, interactive=True)
        return viewer, names, first.name, facts(first.name, record), download


def _tell(run: Run) -> None:
    if run.over and not run.told:
        run.told = True
        if run.trouble is not None and run.job.state != "cancelled":
            warn(run.trouble)


def _at(names: list[str], index: Any) -> str:
    fits = isinstance(index, int) and 0 <= index < len(names)
    return names[index] if fits else ""


def _number(weight: Any) -> Any:
    if weight is None:
        raise gr.Error("a LoRA has no weight", print_exception=False)
    return weight

"""The image tab: what it shows, and what its parts are tied to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from mindsd.config import SPEEDS
from mindsd.pipelines.parameters import MAX_LORA_WEIGHT

from ..samplers import SAMPLERS
from .canvas import make_canvas
from .image_form import ANY, LORAS, OWN, SIZES
from .image_handlers import FIELDS, ImageHandlers

Parts = dict[str, Any]  # components by name
LONGEST = 10_000  # characters of a prompt, as the API has it
HIDDEN: Any = {"show_progress": "hidden", "show_progress_on": []}
CHOSEN_ANEW = "model"  # by what there is when a page is opened
KEEP = "(...now) => [now]"
# Of a page of another version there may be more or fewer. Nothing given back leaves every field as
# it is: what `now` was would overwrite what is typed while the page still loads.
BACK = "(kept, ...now) => kept && kept.length === now.length ? kept : []"
KARRAS = ("DPM++ 2M Karras", "DPM++ 2M SDE Karras", "DPM++ SDE Karras")


@dataclass(frozen=True)
class ImageTab:
    """The parts that the rest of the page needs."""

    parts: Parts
    view: list[Any]  # what `ImageHandlers.watch` gives

    def follow(self, event: Any, handlers: ImageHandlers, desk: Any, **api: Any) -> Any:
        """Watch what runs after an event."""
        return event.then(
            handlers.watch, desk, self.view, trigger_mode="always_last", **(HIDDEN | api)
        )


def image_tab(handlers: ImageHandlers, desk: Any) -> ImageTab:
    """Made inside of a `gr.Tab`."""
    with gr.Row(elem_classes="sides"):
        with gr.Column(scale=5, min_width=300):
            parts = _form(handlers.models())
        with gr.Column(scale=6, min_width=300):
            parts |= _pictures()
    with gr.Column():
        gr.Markdown("## Your pictures", elem_classes="hint")
        parts["history"] = gr.Gallery(
            label="Your pictures, the newest first",
            show_label=False,
            columns=10,
            fit_columns=False,
            object_fit="cover",
            allow_preview=False,
            interactive=False,
            buttons=[],
            elem_id="history",
        )
    parts["history_names"] = gr.State([])
    names = ("status", "roughs", "viewer", "names", "chosen", "facts", "download")
    tab = ImageTab(parts, [parts[name] for name in (*names, "history", "history_names")])
    _tie(tab, handlers, desk)
    return tab


def keep_form(tab: ImageTab, page: gr.Blocks) -> None:
    """What is typed stays in the browser, also after a reload; the server is not asked."""
    kept = gr.BrowserState(None, storage_key="mindsd-form")
    fields = [tab.parts[name] for name in FIELDS if name != CHOSEN_ANEW]
    quiet: Any = {"api_visibility": "private", **HIDDEN}
    page.load(None, [kept, *fields], fields, js=BACK, **quiet)
    for part in fields:
        part.change(None, fields, kept, js=KEEP, **quiet)


def _form(models: list[str]) -> Parts:
    parts: Parts = {
        "prompt": gr.Textbox(
            label="Prompt",
            lines=3,
            max_lines=8,
            max_length=LONGEST,
            placeholder="What to draw. Ctrl+Enter draws it.",
            autofocus=True,
        ),
        "negative_prompt": gr.Textbox(
            label="Negative prompt", lines=1, max_lines=4, max_length=LONGEST
        ),
    }
    with gr.Row(elem_classes="buttons"):
        parts["go"] = gr.Button(
            "Generate", variant="primary", elem_classes="go", min_width=100, scale=3
        )
        parts["cancel"] = gr.Button("Cancel", min_width=70, scale=1)
        parts["cancel_all"] = gr.Button("Cancel all", min_width=90, scale=1)
    with gr.Row():
        parts["model"] = gr.Dropdown(
            models, value=models[0] if models else None, label="Model", min_width=140
        )
        parts["speed"] = gr.Dropdown(list(SPEEDS), value="lossless", label="Speed", min_width=140)
    with gr.Row():
        parts["size"] = gr.Dropdown(
            list(SIZES), value=OWN, label="Size", allow_custom_value=True, min_width=130
        )
        parts["seed"] = field("Seed", ANY)
        parts["n"] = field("Images", "1")
    with gr.Row():
        parts["scheduler"] = gr.Dropdown(
            [OWN, *SAMPLERS, *KARRAS],
            value=OWN,
            label="Sampler",
            allow_custom_value=True,
            min_width=130,
        )
        parts["steps"] = field("Steps")
        parts["guidance"] = field("Guidance")
    return parts | _more() | _start()


def _more() -> Parts:
    with gr.Accordion("LoRA and weights", open=False):
        parts: Parts = {
            "weighted": gr.Checkbox(False, label="Words like (this:1.2) weigh more or less"),
            "loras": gr.Dropdown([], label="LoRA", multiselect=True, max_choices=LORAS),
        }
        with gr.Row():
            parts["weights"] = [
                gr.Number(
                    1.0,
                    label=f"Weight {place + 1}",
                    minimum=-MAX_LORA_WEIGHT,
                    maximum=MAX_LORA_WEIGHT,
                    step=0.1,
                    min_width=120,
                    visible=False,
                )
                for place in range(LORAS)
            ]
    return parts


def _start() -> Parts:
    with gr.Accordion("Start from a picture", open=False) as start:
        gr.Markdown("All of it is drawn anew, or only where you paint.", elem_classes="hint")
        canvas = make_canvas()
        strength = gr.Slider(0.05, 1, value=0.6, step=0.05, label="Strength")
    return {"start": start, "canvas": canvas, "strength": strength}


def _pictures() -> Parts:
    parts: Parts = {"status": gr.HTML(elem_id="status", elem_classes="status")}
    parts["roughs"] = gr.HTML(elem_id="roughs")
    parts["viewer"] = gr.Gallery(
        label="Picture",
        preview=True,
        object_fit="contain",
        height=440,
        interactive=False,
        buttons=["fullscreen"],
        elem_id="viewer",
    )
    with gr.Row(elem_classes="buttons", elem_id="of-picture"):
        parts["reuse"] = gr.Button("Use these settings", min_width=130)
        parts["edit"] = gr.Button("Edit", min_width=80)
        parts["ask"] = gr.Button("Ask about it", min_width=110)
        parts["download"] = gr.DownloadButton("Download", min_width=100, interactive=False)
    parts["facts"] = gr.HTML(elem_id="facts")
    parts["names"], parts["chosen"] = gr.State([]), gr.State(None)
    return parts


def field(label: str, value: str = "", **more: Any) -> gr.Textbox:
    """Of a number; an empty one leaves the choice to the model."""
    return gr.Textbox(
        value, label=label, placeholder="auto", max_lines=1, max_length=24, min_width=80, **more
    )


def _tie(tab: ImageTab, handlers: ImageHandlers, desk: Any) -> None:
    own = tab.parts
    fields = [own[name] for name in FIELDS]
    asked = [desk, own["canvas"], own["loras"], *fields, *own["weights"]]
    drawn = own["go"].click(
        handlers.draw, asked, desk, trigger_mode="multiple", api_name="draw", **HIDDEN
    )
    # A handler that is watching sees the new job, too; one that has just ended does not.
    tab.follow(drawn, handlers, desk, api_name="watch")
    quiet: Any = {"api_visibility": "private", **HIDDEN}
    own["cancel"].click(handlers.cancel, desk, None, api_name="cancel", **HIDDEN)
    own["cancel_all"].click(handlers.cancel_all, desk, None, api_name="cancel_all", **HIDDEN)
    own["history"].select(handlers.pick, own["history_names"], tab.view[2:7], **quiet)
    own["viewer"].select(handlers.choose, own["names"], tab.view[4:7], **quiet)
    own["loras"].change(handlers.weights, own["loras"], own["weights"], **quiet)
    own["model"].input(handlers.sampler, own["scheduler"], own["scheduler"], **quiet)
    form = [*fields, own["loras"], *own["weights"]]
    own["reuse"].click(handlers.reuse, own["chosen"], form, api_name="reuse", **HIDDEN)
    own["edit"].click(handlers.file, own["chosen"], own["canvas"], **quiet).success(
        lambda: gr.update(open=True), None, own["start"], **quiet
    )

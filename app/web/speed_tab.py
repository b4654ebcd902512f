"""The speed tab: what it shows, and what its parts are tied to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from mindsd.config import SPEEDS

from .image_form import ANY
from .image_tab import field
from .speed_handlers import FIELDS, SpeedHandlers

HIDDEN: Any = {"show_progress": "hidden", "show_progress_on": []}
SAID = (
    "Draws one image twice, with all of its work and with less, and says what that saves and "
    "changes. What else the server does meanwhile makes both slower."
)


@dataclass(frozen=True)
class SpeedTab:
    """The parts that the rest of the page needs."""

    parts: dict[str, Any]

    def follow(self, event: Any, handlers: SpeedHandlers, desk: Any, **api: Any) -> Any:
        """Watch what is compared after an event."""
        view = [self.parts[name] for name in ("state", "slider", "plot")]
        return event.then(handlers.watch, desk, view, trigger_mode="always_last", **(HIDDEN | api))


def speed_tab(handlers: SpeedHandlers, desk: Any) -> SpeedTab:
    """Made inside of a `gr.Tab`."""
    gr.Markdown(SAID, elem_classes="hint")
    with gr.Row(elem_classes="sides"):
        with gr.Column(scale=5, min_width=300):
            parts = _form(handlers.models())
        with gr.Column(scale=6, min_width=300):
            parts["state"] = gr.HTML(elem_classes="status", elem_id="speed-state")
            parts["slider"] = gr.ImageSlider(
                label="Plain on the left, with less work on the right",
                type="pil",
                format="png",
                interactive=False,
                buttons=["fullscreen"],
                height=400,
                elem_id="slider",
            )
    parts["plot"] = gr.HTML(elem_id="plot")
    parts["table"] = gr.HTML(elem_id="profiles")
    tab = SpeedTab(parts)
    fields = [parts[name] for name in FIELDS]
    asked = [desk, parts["speed"], *fields]
    event = parts["go"].click(handlers.compare, asked, desk, api_name="compare", **HIDDEN)
    tab.follow(event, handlers, desk, api_name="measure")
    parts["cancel"].click(handlers.cancel, desk, None, api_name="cancel_compare", **HIDDEN)
    return tab


def _form(models: list[str]) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "prompt": gr.Textbox(
            label="Prompt",
            lines=2,
            max_length=10_000,
            placeholder="What to draw twice. Ctrl+Enter begins.",
        )
    }
    with gr.Row(elem_classes="buttons"):
        parts["go"] = gr.Button("Compare", variant="primary", elem_classes="go", scale=3)
        parts["cancel"] = gr.Button("Cancel", min_width=80, scale=1)
    with gr.Row():
        parts["model"] = gr.Dropdown(
            models, value=models[0] if models else None, label="Model", min_width=140
        )
        speeds = [name for name in SPEEDS if name != "lossless"]
        parts["speed"] = gr.Dropdown(speeds, value="balanced", label="Speed", min_width=140)
    with gr.Row():
        parts["steps"] = field("Steps", "24")
        parts["guidance"] = field("Guidance")
        parts["seed"] = field("Seed", ANY)
    return parts

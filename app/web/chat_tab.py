"""The chat tab: what it shows, and what its parts are tied to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..server.text_body import LONGEST
from .chat_handlers import OPTIONS, ChatHandlers
from .image_tab import field

HIDDEN: Any = {"show_progress": "hidden", "show_progress_on": []}


@dataclass(frozen=True)
class ChatTab:
    """The parts that the rest of the page needs."""

    parts: dict[str, Any]

    def follow(self, event: Any, handlers: ChatHandlers, desk: Any, **api: Any) -> Any:
        """Watch what is written after an event."""
        view = [self.parts["talk"], self.parts["state"]]
        return event.then(handlers.watch, desk, view, trigger_mode="always_last", **(HIDDEN | api))


def chat_tab(handlers: ChatHandlers, desk: Any) -> ChatTab:
    """Made inside of a `gr.Tab`."""
    models = handlers.models()
    parts: dict[str, Any] = {
        "model": gr.Dropdown(models, value=models[0] if models else None, label="Model")
    }
    parts["talk"] = gr.Chatbot(
        label="Conversation",
        height="52vh",
        buttons=["copy"],
        feedback_options=None,
        placeholder="Ask something, or show a picture and ask about it.",
        elem_id="talk",
    )
    parts["state"] = gr.HTML(elem_classes="status", elem_id="talk-state")
    parts["message"] = gr.MultimodalTextbox(
        label="Message",
        show_label=False,
        placeholder="Message. Enter sends it, Shift+Enter begins a line.",
        sources=["upload"],
        file_types=[".png", ".jpg", ".jpeg", ".webp"],
        file_count="multiple",
        max_plain_text_length=LONGEST,
        max_lines=8,
        elem_id="message",
    )
    with gr.Row(elem_classes="buttons"):
        parts["stop"] = gr.Button("Stop", min_width=80)
        parts["again"] = gr.Button("Regenerate", min_width=100)
        parts["clear"] = gr.Button("Clear", min_width=80)
    parts |= _options()
    tab = ChatTab(parts)
    _tie(tab, handlers, desk)
    return tab


def _options() -> dict[str, Any]:
    with gr.Accordion("Options", open=False):
        system = gr.Textbox(
            label="System prompt", lines=2, max_lines=6, placeholder="How the model shall answer."
        )
        with gr.Row():
            tokens = field("Most tokens")
            temperature = field("Temperature")
    return {"system": system, "max_tokens": tokens, "temperature": temperature}


def _tie(tab: ChatTab, handlers: ChatHandlers, desk: Any) -> None:
    own = tab.parts
    options = [own[name] for name in OPTIONS]
    message = own["message"]
    said = message.submit(
        handlers.say, [desk, message, *options], [desk, message], api_name="say", **HIDDEN
    )
    again = own["again"].click(handlers.again, [desk, *options], desk, api_name="again", **HIDDEN)
    tab.follow(said, handlers, desk, api_name="listen")
    tab.follow(again, handlers, desk, api_visibility="private")
    own["stop"].click(handlers.stop, desk, None, api_name="stop", **HIDDEN)
    view = [own["talk"], own["state"]]
    own["clear"].click(handlers.clear, desk, view, api_name="clear", **HIDDEN)
    own["talk"].clear(handlers.clear, desk, view, api_visibility="private", **HIDDEN)

"""The page: three tabs over one studio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import gradio as gr
from fastapi import FastAPI

from .chat_handlers import ChatHandlers
from .chat_tab import ChatTab, chat_tab
from .image_handlers import ImageHandlers
from .image_tab import HIDDEN, ImageTab, image_tab, keep_form
from .speed_handlers import SpeedHandlers
from .speed_tab import SpeedTab, speed_tab
from .studio import Studio
from .theme import CSS, HEAD, SWITCH, make_theme

MOST = "32mb"  # of a file that is sent
WAITING = 512  # clicks in Gradio's own queue, which the service's is behind
UPLOADS = (3600, 24 * 3600)  # seconds between two looks for old files, and their age


def make_page(studio: Studio) -> gr.Blocks:
    """The page; `serve_page` puts it into an application."""
    with gr.Blocks(title="mindsd", analytics_enabled=False, delete_cache=UPLOADS) as page:
        desk = gr.BrowserState(None, storage_key="mindsd-desk")
        with gr.Row(elem_classes="top"):
            gr.Markdown("# mindsd")
            switch = gr.Button("Light / dark", size="sm", min_width=100)
        images, chat = ImageHandlers(studio), ChatHandlers(studio)
        speeds = SpeedHandlers(studio)
        with gr.Tabs() as tabs:
            with gr.Tab("Images", id="images"):
                image = image_tab(images, desk)
            with gr.Tab("Chat", id="chat"):
                talk = chat_tab(chat, desk)
            with gr.Tab("Speed", id="speed"):
                speed = speed_tab(speeds, desk)
        switch.click(None, None, None, js=SWITCH, api_visibility="private")
        _ask((image, images), (talk, chat), tabs)
        keep_form(image, page)
        _arrive(page, studio, desk, (image, images), (talk, chat), (speed, speeds))
    page.queue(max_size=WAITING, default_concurrency_limit=None, api_open=False)
    return page


def serve_page(app: FastAPI, page: gr.Blocks, path: str) -> Callable[[], None]:
    """Mount it; nothing of the disk is served but Gradio's own folder.

    Returns:
        What ends the connections that every open page keeps, for a server that goes down.
    """
    gr.mount_gradio_app(
        app,
        page,
        path,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=False,
        max_file_size=MOST,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=make_theme(),
        css=CSS,
        head=HEAD,
    )
    mounted: Any = app.routes[-1]
    return mounted.app.stop_event.set


def _ask(
    images: tuple[ImageTab, ImageHandlers], chat: tuple[ChatTab, ChatHandlers], tabs: gr.Tabs
) -> None:
    """A picture goes over to the chat, to a model that sees it."""

    async def attach(name: str | None, model: str | None) -> tuple[Any, Any, Any]:
        file = await images[1].file(name)
        message = {"text": "", "files": [file]}
        return message, await asyncio.to_thread(chat[1].seeing, model), gr.Tabs(selected="chat")

    own, talk = images[0].parts, chat[0].parts
    own["ask"].click(
        attach,
        [own["chosen"], talk["model"]],
        [talk["message"], talk["model"], tabs],
        api_visibility="private",
        **HIDDEN,
    )


def _arrive(
    page: gr.Blocks,
    studio: Studio,
    desk: Any,
    images: tuple[ImageTab, ImageHandlers],
    chat: tuple[ChatTab, ChatHandlers],
    speed: tuple[SpeedTab, SpeedHandlers],
) -> None:
    """What a page begins with, also after a reload: its desk, and what runs on it."""

    def arrive() -> tuple[Any, ...]:
        draw, write = _choice(images[1].models()), _choice(chat[1].models())
        names = list(studio.service.hub.shelf.loras()), studio.speeds(), studio.speeds()[1:]
        return draw, draw, write, *(gr.update(choices=own) for own in names)

    async def find(id: Any) -> str:
        return studio.desk(id).id

    parts = images[0].parts
    compared = speed[0].parts
    chosen = [parts["model"], compared["model"], chat[0].parts["model"]]
    chosen += [parts["loras"], parts["speed"], compared["speed"]]
    quiet: Any = {"api_visibility": "private", **HIDDEN}
    page.load(arrive, None, chosen, **quiet)
    page.load(speed[1].profiles, None, compared["table"], **quiet)
    found = page.load(find, desk, desk, api_name="arrive", **HIDDEN)
    for tab, handlers in (images, chat, speed):
        tab.follow(found, handlers, desk, **quiet)  # pyright: ignore[reportArgumentType]


def _choice(names: list[str]) -> Any:
    return gr.update(choices=names, value=names[0] if names else None)

"""`mindsd serve`: an OpenAI-compatible server, and the page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mindsd.pipelines.served_vaes import ServedVaes

from ..device_options import SERVED_LAYERS, Device, Dtype, ServedLayers, check_words
from ..libraries import heavy_imports

Names = list[str] | None


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 7860,
    models: Annotated[
        Path | None, typer.Option(help="Folder of models; ids are the names in it.")
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option("-m", "--model", help="One more folder or .gguf file; may be said again."),
    ] = None,
    preload: Annotated[
        Names, typer.Option(help="Id of a model to load at once; may be said again.")
    ] = None,
    keep_alive: Annotated[
        float, typer.Option(help="Seconds that an idle model stays loaded; -1 for ever.")
    ] = 300,
    most_models: Annotated[int, typer.Option(help="Models loaded at a time.", min=1)] = 4,
    max_requests: Annotated[
        int, typer.Option(help="Images and answers that may wait or run.", min=1)
    ] = 256,
    request_timeout: Annotated[
        float, typer.Option(help="Seconds of one request, waiting included; 0 for no bound.", min=0)
    ] = 600,
    drain: Annotated[
        float, typer.Option(help="Seconds that what runs may take at the end.", min=0)
    ] = 30,
    api_key: Annotated[
        str | None, typer.Option(help="What clients must send. (default: nothing)")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let others in without a key.")
    ] = False,
    allowed_host: Annotated[
        Names, typer.Option(help="One more name of this server; may be said again.")
    ] = None,
    allow_origin: Annotated[
        Names, typer.Option(help="Whose pages may ask, as https://example.org.")
    ] = None,
    allow_image_host: Annotated[
        Names,
        typer.Option(help="Whose pictures chats may name by URL; * for any public."),
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="The page for browsers.")] = True,
    pictures: Annotated[Path, typer.Option(help="Folder that the page's pictures go to.")] = Path(
        "pictures"
    ),
    profiles: Annotated[
        Path | None, typer.Option(help="Folder of what mindsd tune wrote; each is one more speed.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    layers: ServedLayers = "auto",
    vae: Annotated[
        Names,
        typer.Option(
            metavar="[ID=]FOLDER",
            help="AutoencoderTiny or AutoencoderKL in place of one model's own, or of all that it "
            "fits; may be said again.",
        ),
    ] = None,
    json_logs: Annotated[
        bool | None,
        typer.Option("--json-logs/--plain-logs", help="Of stderr. (default: plain on a terminal)"),
    ] = None,
) -> None:
    """Serve OpenAI clients: images, chat and completions, from all models at once.

    The address goes to stdout once requests are taken, the log to stderr. Ctrl-C or SIGTERM lets
    what runs end; said again it ends at once.
    """
    check_words(device, dtype, layers, SERVED_LAYERS)
    vaes = ServedVaes.parse(vae or ())
    with heavy_imports():
        from mindsd.pipelines.hub import HubOptions

        from ..server.guard import GuardOptions
        from ..server.remote import Remote
        from ..server.service import ServiceLimits
        from ..server.serving import ServeOrder
        from ..server.serving import serve as run
        from ..web.mount import PageOptions
    run(
        ServeOrder(
            host,
            port,
            models,
            tuple(model or ()),
            profiles,
            tuple(preload or ()),
            HubOptions(
                device,
                dtype,
                layers=layers,
                keep_alive=keep_alive if keep_alive >= 0 else None,
                most=most_models,
                vaes=vaes,
            ),
            ServiceLimits(max_requests, request_timeout or None),
            GuardOptions(api_key, tuple(allowed_host or ()), tuple(allow_origin or ())),
            insecure,
            Remote(tuple(allow_image_host)) if allow_image_host else None,
            PageOptions(pictures) if page else None,
            drain,
            not sys.stderr.isatty() if json_logs is None else json_logs,
        )
    )

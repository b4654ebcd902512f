"""What one `mindsd serve` is asked for, and serving it.

Imports torch, diffusers and transformers; the command imports this file when it runs.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from mindsd.errors import RequestError
from mindsd.pipelines.hub import Hub, HubOptions
from mindsd.pipelines.shelf import Shelf

from ..web.mount import MISSING, PageOptions, mount_page
from .application import create_app
from .guard import GuardOptions, check_bind
from .logs import configure_logs
from .remote import Remote
from .run import listen, make_server
from .run import serve as run
from .service import Service, ServiceLimits

log = structlog.get_logger("mindsd.server")


@dataclass(frozen=True)
class ServeOrder:
    """A server to run.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        models: folder of models; their ids are the names in it.
        named: further models, paths of folders or .gguf files.
        profiles: folder of what `mindsd tune` wrote; its files are further speeds.
        preload: ids of models to load before requests are taken.
        hub: how models are kept.
        limits: what is taken on.
        guard: who may ask; the host it listens on counts as its name, too.
        insecure: others may ask without a key.
        remote: from where pictures of chats are fetched; None for nowhere.
        page: what the page works with; None for no page.
        drain: seconds that what runs may take when the server is asked to end.
        json_logs: JSON on each line of stderr, for machines.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    models: Path | None = None
    named: tuple[Path, ...] = ()
    profiles: Path | None = None
    preload: tuple[str, ...] = ()
    hub: HubOptions = HubOptions()
    limits: ServiceLimits = ServiceLimits()
    guard: GuardOptions = GuardOptions()
    insecure: bool = False
    remote: Remote | None = None
    page: PageOptions | None = None
    drain: float = 30.0
    json_logs: bool = False

    def __post_init__(self) -> None:
        check_bind(self.host, self.guard.key, self.insecure)

    def shelf(self) -> Shelf:
        """Where its models come from.

        Raises:
            RequestError, ModelError: two models have one id, or there is nothing at a path.
        """
        named = {path.resolve().name.removesuffix(".gguf"): path for path in self.named}
        if len(named) < len(self.named):
            raise RequestError("two of the models have the same name; rename one of the folders")
        shelf = Shelf(self.models, named, profiles=self.profiles)
        for id in (*named, *self.preload):
            shelf.find(id)
        return shelf


def serve(order: ServeOrder) -> None:
    """Serve until a signal comes.

    Raises:
        RequestError, ModelError: a model is not there or cannot be loaded.
        OutputError: the address is taken.
    """
    configure_logs(order.json_logs)
    at = listen(order.host, order.port)
    with at, Hub(order.shelf(), order.hub, log.info) as hub:
        for id in order.preload:
            note(f"loading {id}")
            hub.leave(hub.enter(id))
        service = Service(hub, order.limits)
        hosts = (order.host, *order.guard.hosts)
        app = create_app(service, replace(order.guard, hosts=hosts), order.remote)
        paged = order.page is not None and mount_page(app, service, order.page)
        address = f"http://{_shown(order.host)}:{at.getsockname()[1]}"

        def started() -> None:
            note(f"{address}/v1 serves OpenAI clients; Ctrl-C ends it")
            if order.page is not None:
                note(f"{address} is the page" if paged else MISSING)
            print(address, flush=True)

        def ending(taken: int) -> None:
            if taken:
                said = f"{taken} requests are in hand and have {order.drain:g} s to end"
                note(f"{said}; Ctrl-C again ends them at once")

        how = {"drain": order.drain, "on_start": started, "on_end": ending}
        asyncio.run(run(make_server(app, service, **how), at))


def note(text: str) -> None:
    """Tell whoever started it."""
    print(text, file=sys.stderr, flush=True)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host

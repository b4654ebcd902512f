"""What one `mindsd serve` is asked for, and serving it.

Imports torch, diffusers and transformers; the command imports this file when it runs.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from mindsd.errors import RequestError
from mindsd.pipelines.hub import Hub, HubOptions
from mindsd.pipelines.shelf import Shelf

from .application import create_app
from .logs import configure_logs
from .run import listen, make_server
from .run import serve as run
from .service import Service, ServiceLimits


@dataclass(frozen=True)
class ServeOrder:
    """A server to run.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        models: folder of models; their ids are the names in it.
        named: further models, paths of folders or .gguf files.
        preload: ids of models to load before requests are taken.
        hub: how models are kept.
        limits: what is taken on.
        drain: seconds that what runs may take when the server is asked to end.
        json_logs: JSON on each line of stderr, for machines.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    models: Path | None = None
    named: tuple[Path, ...] = ()
    preload: tuple[str, ...] = ()
    hub: HubOptions = HubOptions()
    limits: ServiceLimits = ServiceLimits()
    drain: float = 30.0
    json_logs: bool = False

    def shelf(self) -> Shelf:
        """Where its models come from.

        Raises:
            RequestError, ModelError: two models have one id, or there is nothing at a path.
        """
        named = {path.resolve().name.removesuffix(".gguf"): path for path in self.named}
        if len(named) < len(self.named):
            raise RequestError("two of the models have the same name; rename one of the folders")
        shelf = Shelf(self.models, named)
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
    with at, Hub(order.shelf(), order.hub) as hub:
        for id in order.preload:
            print(f"loading {id}", file=sys.stderr, flush=True)
            hub.leave(hub.enter(id))
        service = Service(hub, order.limits)
        address = f"http://{_shown(order.host)}:{at.getsockname()[1]}"

        def started() -> None:
            print(f"{address}/v1 serves OpenAI clients; Ctrl-C ends it", file=sys.stderr)
            print(address, flush=True)

        server = make_server(create_app(service), service, drain=order.drain, on_start=started)
        asyncio.run(run(server, at))


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host

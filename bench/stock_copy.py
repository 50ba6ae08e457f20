"""The yardstick: a stock Faust agent that only copies messages to another topic.

Everything is at Faust's default except what it takes to run: no web server, a folder of its own. Run as
``python -m bench.stock_copy KAFKA_URL SOURCE TARGET GROUP FOLDER``; says ``READY`` once it has partitions.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable
from typing import Any

import faust

from router.server_process import ServerProcess

READY = "partitions assigned"


class StockCopy(ServerProcess):
    """The agent as a process that answers once partitions are assigned to it."""

    name = "the stock Faust agent"

    def __init__(self, kafka_url: str, source: str, target: str) -> None:
        super().__init__()
        self._argv = (kafka_url, source, target, f"{source}-copy", str(self.folder))

    @property
    def url(self) -> str:
        """It listens nowhere."""
        return ""

    def command(self) -> list[str]:
        """Run this module."""
        return [sys.executable, "-u", "-m", "bench.stock_copy", *self._argv]

    def answers(self) -> bool:
        """Tell whether it has partitions."""
        return READY in self.log


def copy(kafka_url: str, source: str, target: str, group: str, folder: str) -> None:
    """Copy until told to stop; returns by ``SystemExit``."""
    app = faust.App(group, broker=kafka_url, datadir=folder, web_enabled=False)
    leads = app.topic(source, key_serializer="raw", value_serializer="json")
    copies = app.topic(target, key_serializer="raw", value_serializer="json")

    @app.agent(leads)  # type: ignore[untyped-decorator] # Faust is untyped for us
    async def copy_leads(stream: Any) -> None:  # noqa: ANN401 - Faust is untyped for us
        events: AsyncIterable[tuple[bytes, Any]] = stream.items()
        async for key, lead in events:
            await copies.send(key=key, value=lead)

    @app.on_partitions_assigned.connect  # type: ignore[untyped-decorator] # Faust is untyped for us
    async def tell(*_: object, **__: object) -> None:
        print(READY)  # noqa: T201 - this is how it tells that it is ready

    worker = faust.Worker(app, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it would write escape codes into the log
    worker.execute_from_commandline()


if __name__ == "__main__":
    copy(*sys.argv[1:])

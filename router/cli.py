"""``lead-router``: every command, its options and its help."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
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
  LEAD_ROUTER_REDIS_URL     redis://, rediss:// or unix://; absent: an embedded Redis
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


@main.command(epilog="\b\nExample:\n  LEAD_ROUTER_KAFKA_URL=kafka://broker:9092 \\\n  "
              "LEAD_ROUTER_REDIS_URL=redis://redis:6379 lead-router worker")  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Log what Faust and Kafka say, too.")
@clear_errors
def worker(verbose: bool) -> None:  # noqa: FBT001 - a flag of the command line
    """Run one worker until SIGTERM or Ctrl-C.

    Prometheus metrics are on http://127.0.0.1:$LEAD_ROUTER_METRICS_PORT/metrics (any free port by default;
    the log says which).
    """
    from router.local import parts  # noqa: PLC0415 - a help page needs no broker
    from router.worker import run  # noqa: PLC0415 - same

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("router").setLevel(logging.INFO)
    if not verbose:  # Faust logs every service it starts under the module that holds its class
        logging.getLogger("router.transport").setLevel(logging.WARNING)
    settings = Settings.from_env()
    with parts(settings) as where:
        if None in (settings.kafka_url, settings.redis_url):
            click.echo(f"{where.description}; for other terminals:", err=True)
            click.echo(f"  export LEAD_ROUTER_KAFKA_URL={where.kafka_url}", err=True)
            click.echo(f"  export LEAD_ROUTER_REDIS_URL={where.redis_url}", err=True)
        run(settings, where.kafka_url, where.redis_url)


@main.command()
@click.argument("guide")
@click.option("--brand", default="demo", show_default=True)
@click.option("--follow", is_flag=True, help="Go on and show cards as they arrive.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per card.")
@clear_errors
def inbox(guide: str, brand: str, *, follow: bool, as_json: bool) -> None:
    """Show the cards of GUIDE; needs LEAD_ROUTER_REDIS_URL."""
    from router.inbox import Inbox, line  # noqa: PLC0415 - a help page needs no Redis
    from router.state.redis import Scripts  # noqa: PLC0415 - same
    from topics.codec import encode  # noqa: PLC0415 - same

    url = Settings.from_env().redis_url
    if url is None:
        raise ConfigError("LEAD_ROUTER_REDIS_URL is not set: name the Redis that the worker uses")

    async def show() -> None:
        scripts = Scripts(url)
        box = Inbox(scripts.redis, brand, guide)
        write = (lambda card: encode(card).decode()) if as_json else line
        try:
            position = await box.position()
            cards = await box.cards()
            for card in cards:
                click.echo(write(card))
            if not cards and not as_json:
                click.echo(f"no cards for {guide} of {brand}" + (", waiting for some ..." if follow else ""))
            if follow:
                async for card in box.arriving(position):
                    click.echo(write(card))
        finally:
            await scripts.close()

    try:
        asyncio.run(show())
    except KeyboardInterrupt:
        click.echo()


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; fail when a schema is not current.")
def schemas(folder: Path, *, check: bool) -> None:
    """Write the JSON Schema of every topic into FOLDER."""
    from topics.schemas import schemas as texts  # noqa: PLC0415 - a help page needs no schemas

    wanted = texts()
    if check:
        stale = [
            name
            for name, text in wanted.items()
            if not (folder / name).exists() or (folder / name).read_bytes() != text
        ]
        if stale:
            raise Trouble(f"not current: {', '.join(stale)}; run `make schemas`", 1)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in wanted.items():
        (folder / name).write_bytes(text)
    click.echo(f"{len(wanted)} schemas in {folder}")

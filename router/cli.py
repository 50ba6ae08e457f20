"""``lead-router``: every command, its options and its help."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson

from router.config import Settings
from router.delivery import EXIT_OUTAGE
from router.errors import ConfigError, OutageError
from topics.catalog import ASSIGNMENTS

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
    if verbose:
        logging.getLogger("aiokafka").setLevel(logging.INFO)
    else:  # Faust logs every service it starts under the module that holds its class
        logging.getLogger("router.transport").setLevel(logging.WARNING)
    settings = Settings.from_env()
    with parts(settings) as where:
        if None in (settings.kafka_url, settings.redis_url):
            click.echo(f"{where.description}; for other terminals:", err=True)
            click.echo(f"  export LEAD_ROUTER_KAFKA_URL={where.kafka_url}", err=True)
            click.echo(f"  export LEAD_ROUTER_REDIS_URL={where.redis_url}", err=True)
        run(settings, where.kafka_url, where.redis_url)


@main.command(
    epilog="\b\nExamples:\n  lead-router demo\n  "
    "lead-router demo --stores stores.csv --leads 50000 --rate 2000"
)
@click.option("--leads", default=10_000, show_default=True, type=click.IntRange(1), help="Good leads.")
@click.option("--rate", default=1000.0, show_default=True, type=click.FloatRange(1), help="Inputs a second.")
@click.option("--seed", default=1, show_default=True, help="Same seed, same world and load.")
@click.option(
    "--stores",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A store directory: CSV with store_id,name,city,lat,lon,opens,closes,services.",
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on a line of its own.")
@clear_errors
def demo(*, leads: int, rate: float, seed: int, stores: Path | None, as_json: bool) -> None:
    """Route a made-up day in a minute, then audit it.

    Starts the parts and one worker, publishes a roster and a steady stream of leads and reservations, some of
    them repeated or broken, and checks from the raw topics that nothing was lost, nothing given twice and
    nobody given too much. The exit status is 1 when the audit fails.
    """
    from router.demo.run import Options, demo  # noqa: PLC0415 - a help page needs no broker

    options = Options(leads=leads, rate_per_s=rate, seed=seed, stores=stores, as_json=as_json)
    sys.exit(demo(options, Settings.from_env()))


def share(default: float) -> dict[str, Any]:
    """The settings of an option that takes a share of all inputs."""
    return {"default": default, "show_default": True, "type": click.FloatRange(0, 1)}


@main.command(
    epilog="\b\nExample:\n  LEAD_ROUTER_KAFKA_URL=kafka://broker:9092 "
    "lead-router simulate --rate 2000 --leads 100000"
)
@click.option(
    "--leads", default=10_000, show_default=True, type=click.IntRange(1), help="Good leads to send."
)
@click.option("--rate", default=500.0, show_default=True, type=click.FloatRange(1), help="Inputs per second.")
@click.option("--seed", default=1, show_default=True, help="Same seed, same inputs.")
@click.option("--brand", default="demo", show_default=True)
@click.option("--stores", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="As for demo.")
@click.option("--reservations", **share(0.1), help="Share of reservations.")
@click.option("--duplicates", **share(0.02), help="Share of inputs sent again.")
@click.option("--malformed", **share(0.01), help="Share of broken inputs.")
@click.option("--hot-city", **share(0.0), help="Share of leads from the city with the most stores.")
@click.option(
    "--roster/--no-roster", default=True, show_default=True, help="Publish stores and guides first."
)
@clear_errors
def simulate(  # noqa: PLR0913 - every option of the load
    *,
    leads: int,
    rate: float,
    seed: int,
    brand: str,
    stores: Path | None,
    reservations: float,
    duplicates: float,
    malformed: float,
    hot_city: float,
    roster: bool,
) -> None:
    """Send leads and reservations to any broker at a steady rate; needs LEAD_ROUTER_KAFKA_URL."""
    from router.demo.country import built_in_stores  # noqa: PLC0415 - a help page needs no broker
    from router.demo.directory import read_stores  # noqa: PLC0415 - same
    from router.demo.load import Load  # noqa: PLC0415 - same
    from router.demo.send import send  # noqa: PLC0415 - same

    settings = Settings.from_env()
    load = Load(
        seed=seed,
        leads=leads,
        stores=read_stores(stores) if stores else built_in_stores(seed),
        brand=brand,
        reservation_share=reservations,
        duplicate_share=duplicates,
        malformed_share=malformed,
        hot_city_share=hot_city,
    )
    counts = asyncio.run(send(_kafka_url(settings), settings, load, rate, with_roster=roster))
    click.echo(
        f"sent {counts.total:,} records in {counts.elapsed_s:.1f} s: {counts.leads:,} leads, "
        f"{counts.reservations:,} reservations"
    )


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
@clear_errors
def verify(*, as_json: bool) -> None:
    """Audit what the topics hold, and Redis against them.

    Reads every input, assignment and dead letter from the raw topics of LEAD_ROUTER_KAFKA_URL and counts
    again, with code that shares nothing with the router: lost, doubled, over capacity, wrong price zone, out
    of order. Where LEAD_ROUTER_REDIS_URL is set, every key there is compared with what the log says it should
    hold; let the workers be idle meanwhile. The exit status is 1 when anything is found.
    """
    from router.demo.tail import verify  # noqa: PLC0415 - a help page needs no broker
    from router.demo.words import summary  # noqa: PLC0415 - same

    settings = Settings.from_env()
    report = asyncio.run(verify(_kafka_url(settings), settings.topic_prefix))
    wrong = asyncio.run(_compare(settings, mend=False)) if settings.redis_url else {}
    if as_json:
        click.echo(orjson.dumps({**report.as_dict(), "redis": wrong}))
    else:
        click.echo(summary(report))
        _name(wrong, checked=settings.redis_url is not None)
    sys.exit(0 if report.ok and not wrong else 1)


@main.command()
@clear_errors
def rebuild() -> None:
    """Make Redis hold what the log says; stop the workers first.

    Reads the topics of LEAD_ROUTER_KAFKA_URL, compares LEAD_ROUTER_REDIS_URL with them, names every
    difference and writes the log's word over it. An empty Redis becomes what it was; a right one is left
    alone.
    """
    wrong = asyncio.run(_compare(Settings.from_env(), mend=True))
    _name(wrong, checked=True)
    if wrong:
        click.echo(f"{len(wrong):,} keys rebuilt")


async def _compare(settings: Settings, *, mend: bool) -> dict[str, str]:
    """The keys of Redis that differ from the log, after writing them anew if they are to be mended."""
    from router.demo.words import ProgressLine  # noqa: PLC0415 - a help page needs no broker
    from router.rebuild import differences, refuse_running_workers, repair, replay  # noqa: PLC0415 - same
    from router.state.arbiter import Arbiter  # noqa: PLC0415 - same
    from router.state.redis import Scripts  # noqa: PLC0415 - same
    from router.topology import ensure_topics  # noqa: PLC0415 - same

    kafka_url = _kafka_url(settings)
    if settings.redis_url is None:
        raise ConfigError("LEAD_ROUTER_REDIS_URL is not set: name the Redis that the workers use")
    if mend:
        await refuse_running_workers(kafka_url, settings.group)
    line = ProgressLine()

    def show(what: str, done: int, total: int) -> None:
        if line.due or done == total:
            line.show(f"{what}: {done:,} of {total:,}")

    counts = await ensure_topics(kafka_url, settings.topic_prefix, settings.partitions)
    scripts = Scripts(settings.redis_url)
    try:
        expected = await replay(kafka_url, settings.topic_prefix, counts, show)
        wrong = await differences(expected, scripts, show)
        if mend:
            await repair(expected, wrong, scripts, show)
            since_ms = dict.fromkeys(await scripts.identities(), 0)  # nothing is on its way: no worker runs
            await Arbiter(scripts).note_identities(settings.topic_prefix + ASSIGNMENTS.name, since_ms)
        return wrong
    finally:
        line.end()
        await scripts.close()


def _name(wrong: Mapping[str, str], *, checked: bool) -> None:
    """Name every difference, one a line."""
    for key, fault in wrong.items():
        click.echo(f"  {key}: {fault}")
    if checked:
        click.echo(f"redis: {len(wrong):,} keys differ from the log" if wrong else "redis: as the log says")


def _kafka_url(settings: Settings) -> str:
    if settings.kafka_url is None:
        raise ConfigError(
            "LEAD_ROUTER_KAFKA_URL is not set: name a broker, for instance kafka://127.0.0.1:9092"
        )
    return settings.kafka_url


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
                stop = asyncio.Event()
                # a flag, not a cancellation: the Redis client may swallow one that meets its own time-out
                asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
                async for card in box.arriving(position, stop):
                    click.echo(write(card))
        finally:
            await scripts.close()

    asyncio.run(show())


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

"""What the whole way of a lead costs on real Kafka and Redis: ``python -m bench.stream --help``.

Every run has topics, a group and a brand of its own, everything on, and its leads on the broker beforehand:

* drain: one worker routes and projects them all. CPU of the worker and of Redis per lead, leads per second;
* project: the same assignments under another brand, to a worker that finds nothing else to do. What it
  uses is the projector's share, and what is left of the drain is the routing's;
* stock: a stock Faust agent that only copies the same messages on the same broker, for the ratio.

Then leads come at steady rates: from the event to the broker's own time for its assignment (both clocks are
one when the parts run here), and what the worker uses meanwhile. CPU times say most: wall times hang on what
else the machine does.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import click

from bench.drain import Drain, drain
from bench.figures import Figure, append
from bench.steady import WARM_UP_MS, Steady, steady
from bench.world import PARTITIONS, World
from router.config import Settings
from router.demo.country import built_in_stores
from router.demo.directory import StoreRow, read_stores
from router.errors import ConfigError, OutageError

RESULTS = Path(__file__).parent / "results" / "stream.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The size of a bench."""

    leads: int
    repeats: int
    rates: tuple[int, ...]
    seconds: int
    stores: Path | None
    seed: int
    results: Path


async def bench(options: Options, kafka_url: str, redis_url: str, stores: Sequence[StoreRow]) -> list[Figure]:
    """Measure it all, show it, and return the figures."""
    run, numbers = uuid4().hex[:8], count(1)

    def world() -> World:
        return World(kafka_url, redis_url, f"bench-{run}-{next(numbers):02}x", stores, options.seed)

    click.echo("CPU us per lead    worker = routing + projecting   Redis   stock   worker/stock   leads/s")
    drains = []
    for _ in range(options.repeats):
        drains.append(await drain(world(), options.leads))
        click.echo(_row("", drains[-1]))
    middle = Drain(
        **{name: statistics.median(getattr(each, name) for each in drains) for name in Drain.__slots__}
    )
    click.echo(_row("median", middle))
    click.echo(f"{middle.candidates:.1f} candidates per lead; {middle.waiting_share:.1%} of the leads wait")
    click.echo("\nleads/s   p50 ms   p99 ms   worker us per lead   Redis us per lead")
    steadies = []
    for rate_per_s in sorted({*options.rates, int(round(middle.leads_per_s / 2, -2))}):
        each = await steady(world(), rate_per_s, options.seconds)
        steadies.append(each)
        click.echo(
            f"{rate_per_s:7,}{each.p50_ms:9.1f}{each.p99_ms:9.1f}{each.worker_us:21.1f}{each.redis_us:20.1f}"
        )
    size = {"stores": len(stores), "seed": options.seed, "partitions": PARTITIONS}
    return [
        *_drain_figures(drains, middle, size | {"n": options.leads, "repeats": options.repeats}),
        *_steady_figures(steadies, middle, size | {"seconds": options.seconds}),
    ]


def _row(name: str, run: Drain) -> str:
    routing_us = run.worker_us - run.projecting_us
    return (
        f"{name:9}{run.worker_us:15.1f} = {routing_us:7.1f} + {run.projecting_us:10.1f}{run.redis_us:8.1f}"
        f"{run.stock_us:8.1f}{run.worker_us / run.stock_us:15.2f}{run.leads_per_s:10,.0f}"
    )


def _drain_figures(drains: Sequence[Drain], middle: Drain, size: dict[str, Any]) -> Iterator[Figure]:
    """The medians, each with all its repeats; beside worker and ratio stand Redis and the stock agent."""
    params = size | {
        "candidates": round(middle.candidates, 1),
        "waiting_share": round(middle.waiting_share, 4),
    }
    beside = {name: round(getattr(middle, name), 1) for name in ("worker_us", "redis_us", "stock_us")}
    ratios = [each.worker_us / each.stock_us for each in drains]
    routing = [each.worker_us - each.projecting_us for each in drains]
    values = {name: [getattr(each, name) for each in drains] for name in Drain.__slots__}
    for metric, unit, runs, more in (
        ("worker_cpu_per_lead", "us", values["worker_us"], beside),
        ("routing_cpu_per_lead", "us", routing, {}),
        ("projecting_cpu_per_lead", "us", values["projecting_us"], {}),
        ("redis_cpu_per_lead", "us", values["redis_us"], {}),
        ("redis_projecting_cpu_per_lead", "us", values["redis_projecting_us"], {}),
        ("stock_cpu_per_message", "us", values["stock_us"], {}),
        ("worker_to_stock", "ratio", ratios, beside),
        ("drain_leads_per_s", "1/s", values["leads_per_s"], {}),
    ):
        all_runs = {"runs": [round(run, 2) for run in runs]}
        yield Figure(metric, statistics.median(runs), unit, params | more | all_runs)


def _steady_figures(steadies: Sequence[Steady], middle: Drain, size: dict[str, Any]) -> Iterator[Figure]:
    for each in steadies:
        params = size | {
            "rate_per_s": each.rate_per_s,
            "of_peak": round(each.rate_per_s / middle.leads_per_s, 2),
            "warm_up_ms": WARM_UP_MS,
        }
        yield Figure("event_to_assignment_p50", each.p50_ms, "ms", params)
        yield Figure("event_to_assignment_p99", each.p99_ms, "ms", params)
        yield Figure("worker_cpu_per_lead_steady", each.worker_us, "us", params)
        yield Figure("redis_cpu_per_lead_steady", each.redis_us, "us", params)


@contextmanager
def real_parts(settings: Settings) -> Iterator[tuple[str, str]]:
    """The URLs of the broker and the Redis that the settings name; what they do not name is started."""
    try:
        tests = importlib.import_module("tests.parts")  # no part of the distribution: only a checkout has it
    except ModuleNotFoundError as error:
        raise ConfigError(f"run it in a checkout, with the extras dev and embedded ({error})") from None
    with ExitStack() as stack:
        try:
            kafka_url = settings.kafka_url or stack.enter_context(tests.RealKafka()).url
            redis_url = settings.redis_url or stack.enter_context(tests.RealRedis(appendonly=True)).url
        except tests.MissingPartError as error:
            raise ConfigError(
                f"{error}; install it, or set LEAD_ROUTER_KAFKA_URL and LEAD_ROUTER_REDIS_URL"
            ) from None
        yield kafka_url, redis_url


@click.command(epilog="Topics and keys stay behind on a broker and a Redis that you name.")
@click.option(
    "--leads", type=click.IntRange(1), default=40_000, show_default=True, help="Leads of one drain."
)
@click.option(
    "--repeats", type=click.IntRange(1), default=3, show_default=True, help="Drains; the medians count."
)
@click.option(
    "--rate",
    "rates",
    type=click.IntRange(1),
    multiple=True,
    default=(500, 1_000, 2_000, 4_000),
    show_default=True,
    help="Leads a second, once for each rate; half the peak is added.",
)
@click.option(
    "--seconds",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="How long each rate is held, after 2 s.",
)
@click.option(
    "--stores",
    type=click.Path(path_type=Path),
    help="Store directory, CSV [default: the built-in country].",
)
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--results", default=RESULTS, type=click.Path(path_type=Path), help="JSON lines are appended here."
)
def main(**given: Any) -> None:  # noqa: ANN401 - click hands over what its options say
    """Measure what a lead costs on real Kafka and Redis, beside a stock Faust agent, and how long it takes.

    Starts Apache Kafka and redis-server, unless LEAD_ROUTER_KAFKA_URL and LEAD_ROUTER_REDIS_URL name them.
    bench/README.md says how to read the figures.
    """
    # a client that tries again on a topic that is new is no news
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    try:
        options = Options(**given)
        stores = read_stores(options.stores) if options.stores else built_in_stores(options.seed)
        with real_parts(Settings.from_env()) as (kafka_url, redis_url):
            figures = asyncio.run(bench(options, kafka_url, redis_url, stores))
    except (ConfigError, OutageError) as error:
        raise click.ClickException(str(error)) from None
    append(options.results, "stream", figures)
    click.echo(f"\n{len(figures)} figures appended to {options.results}")


if __name__ == "__main__":
    main()

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
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.figures import Figure, append
from bench.stock_copy import StockCopy
from bench.world import PARTITIONS, World, cpu_s, create_topic
from router.config import Settings
from router.demo.country import built_in_stores
from router.demo.directory import StoreRow, read_stores
from router.errors import ConfigError, OutageError
from router.publish import Outgoing, Publisher
from router.state.arbiter import Arbiter
from router.state.redis import Scripts
from router.topology import bootstrap
from topics.catalog import ASSIGNMENTS, DECISIONS, LEADS

RESULTS = Path(__file__).parent / "results" / "stream.jsonl"
WARM_UP_MS = 2_000


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


@dataclass(frozen=True, slots=True)
class Drain:
    """One repeat; CPU in µs per lead."""

    worker_us: float
    projecting_us: float
    redis_us: float
    redis_projecting_us: float
    stock_us: float
    leads_per_s: float
    candidates: float
    waiting_share: float


@dataclass(frozen=True, slots=True)
class Steady:
    """Leads at one steady rate: ms from event to published assignment, CPU in µs per lead."""

    rate_per_s: int
    p50_ms: float
    p99_ms: float
    worker_us: float
    redis_us: float


async def drain(world: World, leads: int) -> Drain:
    """One repeat: the whole way, the projector alone, and the stock agent, on the same leads."""
    await world.create()
    await world.publish_roster()
    await world.publish_leads(leads)
    with world.worker() as worker:
        begin = world.take_reading(worker)
        end = await world.finish(worker, routed=leads, projected=leads)
    routed = end.routed - begin.routed
    candidates, waiting = await _looked_at(world, leads)
    projecting_us, redis_projecting_us = await _project(world, leads)
    return Drain(
        worker_us=(end.worker_s - begin.worker_s) / routed * 1e6,
        projecting_us=projecting_us,
        redis_us=(end.redis_s - begin.redis_s) / routed * 1e6,
        redis_projecting_us=redis_projecting_us,
        stock_us=await _copy(world, leads),
        leads_per_s=routed / (end.at_s - begin.at_s),
        candidates=candidates,
        waiting_share=waiting,
    )


async def _looked_at(world: World, leads: int) -> tuple[float, float]:
    """Guides looked at per lead, and the share of leads that wait, by the decisions."""
    decisions = [orjson.loads(record.value) for record in await world.read(DECISIONS, leads)]
    candidates = statistics.fmean(decision["candidates"] for decision in decisions)
    return candidates, sum("queue" in decision for decision in decisions) / len(decisions)


async def _project(world: World, leads: int) -> tuple[float, float]:
    """CPU µs per assignment, of a worker that only projects and of Redis."""
    # the name has the same length, and its inboxes are new
    other = replace(world, name=world.name[:-1] + "p")
    await other.create()
    scripts = Scripts(world.redis_url)
    # a worker refuses assignments that its Redis knows nothing of
    await Arbiter(scripts).note_epoch(other.prefix + ASSIGNMENTS.name)
    await scripts.close()
    records = await world.read(ASSIGNMENTS, leads)
    old, new = f'"brand":"{world.name}"'.encode(), f'"brand":"{other.name}"'.encode()
    topic = other.prefix + ASSIGNMENTS.name
    copies = [
        Outgoing(topic, record.partition, record.key, record.value.replace(old, new)) for record in records
    ]
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap(world.kafka_url))
    await producer.start()
    try:
        publisher = Publisher(lambda: producer)
        await publisher.discover([topic])
        for start in range(0, len(copies), 2_000):
            await publisher.publish(copies[start : start + 2_000])
    finally:
        await producer.stop()
    with other.worker() as worker:
        begin = other.take_reading(worker)
        end = await other.finish(worker, routed=0, projected=leads)
    projected = end.projected - begin.projected
    return (end.worker_s - begin.worker_s) / projected * 1e6, (end.redis_s - begin.redis_s) / projected * 1e6


async def _copy(world: World, leads: int) -> float:
    """CPU µs per message of the stock agent."""
    source, target = world.prefix + LEADS.name, world.prefix + "copies"
    await create_topic(world.kafka_url, target)
    partitions = [TopicPartition(target, number) for number in range(PARTITIONS)]
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap(world.kafka_url))
    await reader.start()
    try:
        with StockCopy(world.kafka_url, source, target) as stock:
            begin_s, deadline_s = cpu_s(stock.pid), time.monotonic() + 60 + leads / 1_000
            while sum((await reader.end_offsets(partitions)).values()) < leads:
                if not stock.running or time.monotonic() > deadline_s:
                    raise OutageError(f"{stock.name} stopped; its log ends:\n{stock.log[-2000:]}")
                await asyncio.sleep(0.1)
            return (cpu_s(stock.pid) - begin_s) / leads * 1e6
    finally:
        await reader.stop()


async def steady(world: World, rate_per_s: int, seconds: int) -> Steady:
    """Route leads at a steady rate; the first two seconds are not counted among the latencies."""
    await world.create()
    await world.publish_roster()
    leads = rate_per_s * seconds + rate_per_s * WARM_UP_MS // 1000
    with world.worker() as worker:
        begin = world.take_reading(worker)
        await world.publish_leads(leads, rate_per_s)
        end = await world.finish(worker, routed=leads, projected=leads)
    records = await world.read(ASSIGNMENTS, leads)
    came_ms = np.array([orjson.loads(record.value)["lead_at_ms"] for record in records])
    counted = came_ms >= came_ms.min() + WARM_UP_MS
    took_ms = (np.array([record.timestamp for record in records]) - came_ms)[counted]
    p50_ms, p99_ms = np.percentile(took_ms, (50, 99)).tolist()
    worker_us, redis_us = end.worker_s - begin.worker_s, end.redis_s - begin.redis_s
    return Steady(rate_per_s, p50_ms, p99_ms, worker_us / leads * 1e6, redis_us / leads * 1e6)


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
    for rate_per_s in sorted({*options.rates, round(middle.leads_per_s / 2, -2).__trunc__()}):
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


@click.command(help=__doc__, epilog="Topics and keys stay behind on a broker and a Redis that you name.")
@click.option("--leads", default=40_000, show_default=True, help="Leads of one drain.")
@click.option("--repeats", default=3, show_default=True, help="Drains; the medians count.")
@click.option(
    "--rates", default="500,1000,2000,4000", show_default=True, help="Leads a second; half the peak is added."
)
@click.option("--seconds", default=10, show_default=True, help="How long each rate is held, after 2 s.")
@click.option(
    "--stores",
    type=click.Path(path_type=Path),
    help="Store directory, CSV [default: the built-in country].",
)
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--results", default=RESULTS, type=click.Path(path_type=Path), help="JSON lines are appended here."
)
def main(rates: str, **given: Any) -> None:  # noqa: ANN401 - click hands over what its options say
    """Measure, show and keep."""
    # a client that tries again on a topic that is new is no news
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    try:
        options = Options(rates=tuple(int(rate) for rate in rates.split(",") if rate), **given)
        stores = read_stores(options.stores) if options.stores else built_in_stores(options.seed)
        with real_parts(Settings.from_env()) as (kafka_url, redis_url):
            figures = asyncio.run(bench(options, kafka_url, redis_url, stores))
    except (ConfigError, OutageError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    append(options.results, "stream", figures)
    click.echo(f"\n{len(figures)} figures appended to {options.results}")


if __name__ == "__main__":
    main()

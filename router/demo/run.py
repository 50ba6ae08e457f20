"""The demo: parts, a roster, one worker, a steady load, and an audit of what came of it."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import click
import orjson

from router.audit import Audit, Report
from router.config import Settings
from router.demo.country import built_in_stores
from router.demo.directory import StoreRow, read_stores
from router.demo.load import Load
from router.demo.roster import GUIDES_PER_STORE, roster
from router.demo.simulate import publish_roster, simulate
from router.demo.tail import Tail
from router.demo.words import ProgressLine, progress, summary
from router.demo.worker_process import WorkerProcess
from router.errors import OutageError
from router.local import Parts, parts
from router.topology import ensure_topics

#: How long nothing may be answered while inputs wait for an answer.
_PATIENCE_S = 30.0
_INTERRUPTED = 130

#: Kafka URL and topic prefix.
Target = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The size of a demo: ``leads`` good ones at ``rate_per_s`` inputs a second, from a seeded world."""

    leads: int = 10_000
    rate_per_s: float = 1_000.0
    seed: int = 1
    stores: Path | None = None
    as_json: bool = False


def demo(options: Options, settings: Settings) -> int:
    """Run it and return the exit status: 0, or 1 when the audit or a part failed, or 130 after Ctrl-C.

    Progress goes to standard error, the summary to standard output, with ``as_json`` one object as its last
    line. On a broker or Redis that the settings name, every run has topics, a group and a brand of its own.

    Raises:
        ConfigError: the store directory or the settings cannot be used, or the worker does not start.
        OutageError: the broker does not answer, or the worker ended.

    """
    stores = read_stores(options.stores) if options.stores else built_in_stores(options.seed)
    # A client that tries again, as with a topic that is new, is no news for somebody who watches a demo.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    # Asked to end or interrupted, the way out is the same: everything that was started stops.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with parts(settings) as where:
            _say(f"parts     {where.description}")
            return _demo(options, settings, where, stores)
    except KeyboardInterrupt:
        click.echo("\nStopped: the worker and the embedded parts have ended.", err=True)
        return _INTERRUPTED


def _demo(options: Options, settings: Settings, where: Parts, stores: Sequence[StoreRow]) -> int:
    shared = bool(settings.kafka_url or settings.redis_url)
    name = f"demo-{uuid4().hex[:8]}" if shared else "demo"
    prefix = f"{settings.topic_prefix}{name}."
    asyncio.run(_publish_world(options, settings.partitions, stores, name, (where.kafka_url, prefix)))
    _say(f"roster    {len(stores):,} stores, {len(stores) * GUIDES_PER_STORE:,} guides (brand {name})")
    _say("worker    starting ...")
    started_s = time.monotonic()
    environment = {
        "LEAD_ROUTER_KAFKA_URL": where.kafka_url,
        "LEAD_ROUTER_REDIS_URL": where.redis_url,
        "LEAD_ROUTER_TOPIC_PREFIX": prefix,
        "LEAD_ROUTER_GROUP": name,
    }
    with WorkerProcess(environment) as worker:
        try:
            _say(f"worker    ready after {time.monotonic() - started_s:.1f} s, metrics on {worker.url}")
            load = Load(seed=options.seed, leads=options.leads, stores=stores, brand=name)
            audit = Audit()
            published = asyncio.run(
                _route(load, options.rate_per_s, worker, audit, (where.kafka_url, prefix))
            )
        finally:
            worker.stop()
    report = _checked(audit.report(), published)
    click.echo(summary(report))
    click.echo(_hint(audit.busiest_guide, shared=shared))
    if options.as_json:
        click.echo(orjson.dumps({"seed": options.seed, **report.as_dict()}))
    return 0 if report.ok else 1


async def _publish_world(
    options: Options, partitions: int, stores: Sequence[StoreRow], brand: str, target: Target
) -> None:
    await ensure_topics(*target, partitions)
    now_ms = time.time_ns() // 1_000_000
    await publish_roster(*target, roster(stores, options.seed, brand=brand, at_ms=now_ms))


async def _route(load: Load, rate_per_s: float, worker: WorkerProcess, audit: Audit, target: Target) -> int:
    """Publish and audit at the same time; then stop the worker, and read what it said last."""
    async with Tail(*target, audit) as tail:
        published = await _publish_and_read(load, rate_per_s, worker, tail, target)
        await asyncio.to_thread(worker.stop)
        await tail.read_to_end()
    return published


async def _publish_and_read(
    load: Load, rate_per_s: float, worker: WorkerProcess, tail: Tail, target: Target
) -> int:
    """Return how many were published: when every input is answered, or when nothing was answered for long."""
    line, audit, published = ProgressLine(), tail.audit, 0

    def count(so_far: int) -> None:
        nonlocal published
        published = so_far

    publishing = asyncio.create_task(simulate(*target, load, rate_per_s, count))
    answered, deadline_s = 0, time.monotonic() + _PATIENCE_S
    try:
        while not (publishing.done() and answered >= published):
            await tail.read()
            if line.due:
                line.show(progress(published, audit.report()))
            if not worker.running:
                raise OutageError(f"the worker ended in the middle; its log ends:\n{worker.log[-2000:]}")
            if publishing.done():
                publishing.result()  # an outage is told at once
            if audit.answered > answered:
                answered, deadline_s = audit.answered, time.monotonic() + _PATIENCE_S
            elif time.monotonic() > deadline_s:
                line.end()
                _say(f"waited {_PATIENCE_S:g} s: {published - answered:,} inputs have no answer")
                break
        line.show(progress(published, audit.report()))
        return published
    finally:
        line.end()
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)


def _checked(report: Report, published: int) -> Report:
    """The report, with a problem more when the broker does not hold all that it took."""
    missing = published - report.leads_in - report.reservations_in
    if missing <= 0:
        return report
    problem = f"lost: the broker took {missing} inputs more than it holds"
    return replace(report, lost=report.lost + missing, problems=(*report.problems, problem))


def _hint(guide: str | None, *, shared: bool) -> str:
    """What to try next, with the guide (``brand/guide_id``) who got the most."""
    if guide is None or not shared:
        return (
            "Try next: lead-router demo --leads 20000 --rate 2000; your own stores: --stores FILE.csv;\n"
            "your own Kafka and Redis, where the inboxes stay: LEAD_ROUTER_KAFKA_URL, LEAD_ROUTER_REDIS_URL."
        )
    brand, guide_id = guide.split("/")
    return f"Try next: lead-router inbox {guide_id} --brand {brand}"


def _say(text: str) -> None:
    click.echo(text, err=True)

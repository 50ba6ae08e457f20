"""The demo: parts, a roster, one worker, a steady load, guides who answer, and an audit of all of it."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import orjson

from router.audit import Audit, Report
from router.commission import words
from router.commission.reading import extract
from router.config import Settings
from router.demo.country import built_in_stores
from router.demo.directory import StoreRow, read_stores
from router.demo.guides import POLICY, Guides
from router.demo.load import Input, Load
from router.demo.orders import COMMISSION, Orders, nobody_buys
from router.demo.roster import GUIDES_PER_STORE, guide_ids, roster
from router.demo.simulate import publish_roster, simulate
from router.demo.tail import Tail
from router.demo.words import ProgressLine, earnings, progress, summary
from router.demo.worker_process import WorkerProcess
from router.errors import OutageError
from router.local import Parts, parts
from router.producing import outgoing, producing
from router.rules.money.story import story
from router.state import keys
from router.state.redis import Scripts
from router.topology import ensure_topics
from topics.catalog import BINDINGS, ORDERS, POLICIES, PRESENCE, RESERVATIONS, RESPONSES, TOUCHES
from topics.policies import Policy

#: How long nothing may happen while inputs wait for an answer, or leads for what is due.
_PATIENCE_S = 30.0
#: What is due later than this is left as it is when all is answered.
_SOON_MS = 60_000
_ANSWER_S = 0.05
_CROWD_SHARE = 0.1
_INTERRUPTED = 130

#: Kafka URL and topic prefix.
Target = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The size of a demo: ``leads`` good ones at ``rate_per_s`` inputs a second, from a seeded world."""

    leads: int = 10_000
    rate_per_s: float = 150.0
    seed: int = 1
    stores: Path | None = None
    orders: bool = True
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
            load = Load(
                seed=options.seed, leads=options.leads, stores=stores, brand=name, crowd_share=_CROWD_SHARE
            )
            buying = Orders(options.seed, name).won if options.orders else nobody_buys
            audit, guides = Audit(), Guides(options.seed, name, guide_ids(stores), buying)
            published = asyncio.run(
                _route(load, options.rate_per_s, worker, audit, guides, (where.kafka_url, prefix))
            )
        finally:
            worker.stop()
    report = _checked(audit.report(), published)
    click.echo(summary(report))
    if audit.examples is not None:
        order, party = (each.partition("/")[2] for each in audit.examples)
        click.echo(f"earnings: {asyncio.run(_earnings(where.redis_url, name, party))} yuan")
        told = asyncio.run(_story(where.kafka_url, replace(settings, topic_prefix=prefix), name, order))
        click.echo("\n".join(["", *told, ""] if told else told))
    click.echo(_hint(audit.busiest_guide, prefix if shared else None))
    if options.as_json:
        click.echo(orjson.dumps({"seed": options.seed, **report.as_dict()}))
    return 0 if report.ok else 1


async def _publish_world(
    options: Options, partitions: int, stores: Sequence[StoreRow], brand: str, target: Target
) -> None:
    await ensure_topics(*target, partitions)
    now_ms = time.time_ns() // 1_000_000
    await publish_roster(*target, roster(stores, options.seed, brand=brand, at_ms=now_ms))
    await publish_roster(*target, [(POLICIES, Policy(brand=brand, version=1, toml=POLICY + COMMISSION))])


async def _route(  # noqa: PLR0913, PLR0917 - everybody who takes part
    load: Load, rate_per_s: float, worker: WorkerProcess, audit: Audit, guides: Guides, target: Target
) -> int:
    """Publish, answer and audit at the same time; then stop the worker, and read what it said last."""
    async with Tail(*target, audit, lambda value: guides.look(value, _now_ms())) as tail:
        run = _Run(load, rate_per_s, worker, tail, guides, target)
        published = await run.to_its_end()
        await asyncio.to_thread(worker.stop)
        await tail.read_to_end()
    return published


@dataclass(slots=True)
class _Run:
    """Inputs on their way in, guides who answer, and an audit that watches."""

    load: Load
    rate_per_s: float
    worker: WorkerProcess
    tail: Tail
    guides: Guides
    target: Target
    _sent: int = 0
    _changed: int = 0
    _bought: int = 0

    @property
    def published(self) -> int:
        """Inputs that the broker has: the load, and later versions of reservations."""
        return self._sent + self._changed

    async def to_its_end(self) -> int:
        """Return how many inputs were published: when all is answered, or when nothing happened for long."""
        line = ProgressLine()
        inputs = asyncio.create_task(
            simulate(*self.target, self.load, self.rate_per_s, self._count, self._booked)
        )
        answers = asyncio.create_task(self._answer(inputs))
        deadline_s = time.monotonic() + _PATIENCE_S
        try:
            while not (inputs.done() and self._over()):
                news = await self.tail.read()
                if line.due:
                    line.show(progress(self.published, self.tail.audit.report()))
                if not self.worker.running:
                    raise OutageError(
                        f"the worker ended in the middle; its log ends:\n{self.worker.log[-2000:]}"
                    )
                for task in (inputs, answers):
                    if task.done():
                        task.result()  # an outage is told at once
                if news and self.tail.audit.answered:
                    deadline_s = time.monotonic() + _PATIENCE_S
                elif time.monotonic() > deadline_s:
                    line.end()
                    _say(f"waited {_PATIENCE_S:g} s: {self._left()}")
                    break
            line.show(progress(self.published, self.tail.audit.report()))
            return self.published
        finally:
            line.end()
            for task in (inputs, answers):
                task.cancel()
            await asyncio.gather(inputs, answers, return_exceptions=True)

    def _over(self) -> bool:
        """Every input is answered, nobody means to say more, and nothing is due any more."""
        audit = self.tail.audit
        by_ms = _now_ms() + _SOON_MS
        read = audit.answered >= self.published and audit.orders_read >= self._bought
        answered = read and not audit.unposted
        return answered and self.guides.idle and not audit.due(by_ms) and not audit.vesting(by_ms)

    def _left(self) -> str:
        audit = self.tail.audit
        by_ms = _now_ms() + _SOON_MS
        return (
            f"{audit.unanswered:,} inputs have no answer, {audit.due(by_ms):,} leads wait for what is due, "
            f"{audit.unposted:,} orders are not in the book, {audit.vesting(by_ms):,} have not vested"
        )

    def _count(self, so_far: int) -> None:
        self._sent = so_far

    def _booked(self, each: Input) -> None:
        self.guides.booked(each, _now_ms())

    async def _answer(self, inputs: asyncio.Task[Any]) -> None:
        """Publish what guides and members do, as it is due; guides go offline only while inputs come."""
        topics = (RESPONSES, RESERVATIONS, PRESENCE, BINDINGS, TOUCHES, ORDERS)
        async with producing(*self.target, topics) as publisher:
            while True:
                due = self.guides.due(_now_ms(), open_for_business=not inputs.done())
                # counted beforehand: until the audit has read them all it is not over
                self._bought += sum(each.topic is ORDERS for each in due)
                await publisher.publish(
                    [outgoing(publisher, self.target[1], each.topic, each.key, each.value) for each in due]
                )
                self._changed += sum(each.topic is RESERVATIONS for each in due)
                await asyncio.sleep(_ANSWER_S)


async def _earnings(redis_url: str, brand: str, guide_id: str) -> str:
    """What a guide reads in one call."""
    scripts = Scripts(redis_url)
    try:
        held: Any = await scripts.redis.hgetall(keys.earnings(brand, "party", guide_id))
    finally:
        await scripts.close()
    return earnings(guide_id, {key.decode(): value.decode() for key, value in held.items()})


async def _story(kafka_url: str, settings: Settings, brand: str, order_id: str) -> list[str]:
    """One order's commission, as ``lead-router commission show`` tells it."""
    book = await extract(kafka_url, settings, brand, (order_id,), lambda *_: None)
    told = story(book, order_id, _now_ms())
    return [] if told is None else words.story(told)


def _checked(report: Report, published: int) -> Report:
    """The report, with a problem more when the broker does not hold all that it took."""
    missing = published - report.leads_in - report.reservations_in
    if missing <= 0:
        return report
    problem = f"lost: the broker took {missing} inputs more than it holds"
    return replace(report, lost=report.lost + missing, problems=(*report.problems, problem))


def _hint(guide: str | None, prefix: str | None) -> str:
    """What to try next: on given parts, whose topics have a prefix, with the guide who got the most."""
    if guide is None or prefix is None:
        return (
            "Try next: lead-router demo --leads 20000 --rate 2000; your own stores: --stores FILE.csv;\n"
            "your own Kafka and Redis, where inboxes and books stay:\n"
            "LEAD_ROUTER_KAFKA_URL, LEAD_ROUTER_REDIS_URL."
        )
    brand, guide_id = guide.split("/")
    return (
        f"Try next: export LEAD_ROUTER_TOPIC_PREFIX={prefix}\n"
        f"  lead-router inbox {guide_id} --brand {brand}\n"
        f"  lead-router commission statement {guide_id} --brand {brand}\n"
        "  lead-router commission verify"
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _say(text: str) -> None:
    click.echo(text, err=True)

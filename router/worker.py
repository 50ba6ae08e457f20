"""One worker: Faust agents over the work topics, the reference feed beside them, metrics around both."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from importlib.metadata import version
from typing import Any
from uuid import uuid4

import faust
import numpy as np
from aiokafka.errors import KafkaError

from router.changes import Changes
from router.config import Settings
from router.delivery import EXIT_BUG, Delivery, Work, end_process
from router.errors import OutageError
from router.feed import Feed
from router.flow import Flow, Routed
from router.ledger.carrying import Carrier
from router.ledger.gathering import Gathering
from router.ledger.ledger import Ledger
from router.metrics import Metrics, Partitions
from router.outbox import Outbox
from router.projector import Projector
from router.publish import Publisher
from router.recovery import Recovery
from router.reference import REFERENCE_TOPICS, Reference
from router.rules.intake import Record, Refusal
from router.state.arbiter import Arbiter
from router.state.guard import Guard
from router.state.money import Money
from router.state.redis import Scripts
from router.timers import LOOK_REST, Timers, share_of
from router.topology import bootstrap, ensure_topics
from router.tracking import Tracking
from router.traffic import checksum, over_capacity
from router.transport import App, BatchStream, app_settings, broker_url
from topics.catalog import (
    ASSIGNMENTS,
    BINDINGS,
    LEADS,
    LEDGER_COMMANDS,
    ORDERS,
    RESERVATIONS,
    RESPONSES,
    TOUCHES,
    Topic,
)

log = logging.getLogger(__name__)

#: How often changed reference data becomes columns and capacities.
REFRESH_S = 0.2
#: How often it is looked at what is due.
TICK_S = 0.25
#: How often the size of the guides' books is read.
BOOKS_S = 15.0


class Worker:
    """Everything one worker process is made of, and how it hangs together."""

    def __init__(
        self, settings: Settings, kafka_url: str, redis_url: str, partitions: dict[str, int]
    ) -> None:
        self.settings = settings
        self.partitions = partitions
        self.brokers = bootstrap(kafka_url)
        self.app = App(settings.group, broker=broker_url(kafka_url), **app_settings())
        self.metrics = Metrics(version("lead-router"))
        self.metrics.registry.register(Partitions(self.app.seen))
        self.reference = Reference(lambda topic, reason: self.metrics.refused.labels(topic, reason).inc())
        self.metrics.over_capacity.set_function(lambda: over_capacity(self.reference.roster))
        self.metrics.columns.set_function(lambda: checksum(self.reference.roster))
        self.publisher = Publisher(lambda: self.app.producer._producer)  # noqa: SLF001 - Faust's own, on purpose
        self.publisher.publish = self.metrics.timed("publish", self.publisher.publish)  # type: ignore[method-assign]
        self.guard = Guard()
        self.arbiter = Arbiter(Scripts(redis_url, guard=self.guard))
        for step in ("fix_cells", "claim", "keep_journeys", "deliver_cards"):
            setattr(self.arbiter, step, self.metrics.timed(step, getattr(self.arbiter, step)))
        self.outbox = Outbox(settings.topic_prefix, partitions)
        self.flow = Flow(self.reference, self.arbiter, self.publisher, self.outbox)
        self.projector = Projector(
            self.arbiter, lambda: self.reference.roster, lambda: self.guard.restore_until_ms
        )
        self.changes = Changes(self.arbiter, self.reference)
        unguarded = Arbiter(Scripts(redis_url))
        self.recovery = Recovery(
            unguarded,
            self.guard,
            self.reference,
            self._read_log,
            settings.topic_prefix + ASSIGNMENTS.name,
            self.metrics.regressions.inc,
            self._carrier(Money(unguarded.scripts, recovers=True)),
        )
        self.ledger = Ledger(self._carrier(Money(self.arbiter.scripts)))
        self.timers = Timers(
            self.arbiter, self.reference, self.flow, self.publisher, self.outbox, self._mine, LOOK_REST
        )
        self._marked: set[str] = set()
        self.delivery = Delivery(self.set_aside, lambda: self.app.should_stop or self.app.rebalancing)
        self.metrics.alive.set_function(lambda: self.delivery.alive)
        self.ready = asyncio.Event()
        self.feed = Feed(self.brokers, {name: partitions[name] for name in self._reference_topics()})
        tracking = Tracking(self.arbiter.members)
        for topic, work in (
            (LEADS, self._routing(LEADS)),
            (RESERVATIONS, self._routing(RESERVATIONS)),
            (RESPONSES, self.follow),
            (BINDINGS, self._tracking(BINDINGS, tracking.bind)),
            (TOUCHES, self._tracking(TOUCHES, tracking.touch)),
            (ASSIGNMENTS, self.project),
            (ORDERS, self._tracking(ORDERS, self.metrics.timed("orders", self.ledger.orders))),
            (LEDGER_COMMANDS, self._tracking(LEDGER_COMMANDS, self.ledger.commands)),
        ):
            self._follow(topic, work)
        for task in (
            self._read_reference,
            self._keep_current,
            self._keep_time,
            self._keep_books,
            self._keep_books_whole,
        ):
            self.app.task(or_end(task))

    def _carrier(self, money: Money) -> Carrier:
        gathering = Gathering(self.arbiter.members, self.reference)
        return Carrier(self.reference, money, gathering, self.publisher, self.outbox)

    def _follow(self, topic: Topic, work: Work) -> None:
        """Start an agent that carries the batches of a topic through their work."""

        async def follow(stream: BatchStream) -> None:
            await self.ready.wait()
            async for batch in stream.batches(self.settings.batch_max, self.settings.batch_wait_ms / 1000):
                await self.delivery.carry(batch, work)

        name = self.settings.topic_prefix + topic.name
        source = self.app.topic(name, key_serializer="raw", value_serializer="raw")
        self.app.agent(source, name=topic.name)(follow)

    def _routing(self, topic: Topic) -> Work:
        route = self.metrics.timed("route", self.flow.route)

        async def work(records: Sequence[Record]) -> None:
            self._observe(topic, await route(topic, records))

        return work

    async def follow(self, records: Sequence[Record]) -> None:
        """Take in what happened to leads."""
        routed = await self.flow.follow(records)
        self.metrics.count_claims([answer.result for answer in routed.answers])
        self._count_refusals(routed.refusals)
        self.metrics.events.labels(RESPONSES.name, "followed").inc(len(routed.answers))

    def _mine(self, names: Collection[str]) -> list[str]:
        """Those cells or brands that this worker looks after: it holds their share of the responses."""
        topic = self.settings.topic_prefix + RESPONSES.name
        held = {tp.partition for tp in self.app.seen() if tp.topic == topic}
        return [name for name in names if share_of(name, self.partitions[topic]) in held]

    def _observe(self, topic: Topic, routed: Routed) -> None:
        results = [answer.result for answer in routed.answers]
        self.metrics.count_claims(results)
        self._count_refusals(routed.refusals)
        conflicts = results.count("conflict")  # the flow sets them aside by itself
        self.metrics.dead_letters.labels("conflict").inc(conflicts)
        self.metrics.events.labels(topic.name, "dead_letter").inc(conflicts)
        self.metrics.events.labels(topic.name, "routed").inc(len(results) - conflicts)
        now_ms = time.time() * 1000
        came_ms = np.array([request.event.occurred_at_ms for request in routed.requests])
        self.metrics.decision.observe(np.maximum(now_ms - came_ms, 0) / 1000)

    def _tracking(self, topic: Topic, follow: Callable[[Sequence[Record]], Awaitable[list[Refusal]]]) -> Work:
        async def work(records: Sequence[Record]) -> None:
            refusals = await follow(records)
            await self.set_aside(refusals)
            self.metrics.events.labels(topic.name, "followed").inc(len(records) - len(refusals))

        return work

    async def project(self, records: Sequence[Record]) -> None:
        """Bring assignments into inboxes and journeys."""
        refusals = await self.projector.project(records)
        await self.set_aside(refusals)
        self.metrics.events.labels(ASSIGNMENTS.name, "projected").inc(len(records) - len(refusals))

    async def set_aside(self, refusals: Sequence[Refusal]) -> None:
        """Publish refused records to the dead letters."""
        await self.publisher.publish(self.outbox.dead_letters(refusals))
        self._count_refusals(refusals)

    def _count_refusals(self, refusals: Sequence[Refusal]) -> None:
        for refusal in refusals:
            self.metrics.dead_letters.labels(refusal.reason).inc()
            topic = refusal.record.topic.removeprefix(self.settings.topic_prefix)
            self.metrics.events.labels(topic, "dead_letter").inc()

    def _reference_topics(self) -> dict[str, Topic]:
        return {self.settings.topic_prefix + topic.name: topic for topic in REFERENCE_TOPICS}

    async def _read_reference(self) -> None:
        """Read the reference topics in full, then follow them."""
        topics = self._reference_topics()
        async for records in self.feed.records():
            for record in records:
                self.reference.apply(topics[record.topic], record.key, record.value)

    async def _read_log(self, topic: Topic, since_ms: int | None) -> AsyncIterator[Sequence[Record]]:
        """The records of a work topic, from a time on, to its present end."""
        name = self.settings.topic_prefix + topic.name
        feed = Feed(self.brokers, {name: self.partitions[name]}, since_ms, self.settings.group)
        async for records in feed.records(follow=False):
            yield records

    async def _keep_current(self) -> None:
        """Keep Redis whole and the columns up to date; the first time round makes the worker ready."""
        while True:
            try:
                if self.feed.caught_up.is_set():
                    await self._catch_up()
            except (OutageError, KafkaError) as outage:
                log.warning("columns wait: %s", outage)
            self.metrics.ready.set(self.ready.is_set() and self.guard.whole and not self.app.rebalancing)
            await asyncio.sleep(REFRESH_S)

    async def _catch_up(self) -> None:
        if not self.guard.whole:
            self.changes.forget()
            self.reference.keep(await self.recovery.arbiter.known_cells())
            await self.recovery.run()
            if not self.guard.whole:
                return  # something was lost on the way: the next turn begins again
            await self.arbiter.note_cells(self.reference.cells)
            self._marked = set(self.reference.cells)
            self.ledger.opened.update(self.reference.roster.brands)
        rows = self.reference.refresh(await self.arbiter.now_ms())
        if rows:
            await self.arbiter.set_capacities(rows)
            self.reference.told(rows)
            self.metrics.stores.set(self.reference.roster.store_count)
            self.metrics.guides.set(self.reference.roster.guide_count)
        if opened := [cell for cell in self.reference.cells if cell not in self._marked]:
            await self.arbiter.note_cells(opened)
            # without assignments there is nothing to lose: new cells are whole
            await self.arbiter.mark(opened, await self.arbiter.begin(opened, uuid4().hex))
            self._marked.update(opened)
        await self.ledger.open()
        await self.changes.follow()
        if not self.ready.is_set():
            gc.freeze()  # the roster stays: without this every rebalance would walk through it
            self.ready.set()
            roster = self.reference.roster
            log.info("ready: %d stores, %d guides", roster.store_count, roster.guide_count)

    async def _keep_books(self) -> None:
        """Read how many members are bound to guides who take no more than so many."""
        while True:
            try:
                if self.ready.is_set():
                    guides = self.reference.with_limited_books()
                    self.reference.enter_books(guides, await self.arbiter.members.books(guides))
            except OutageError as outage:
                log.warning("books wait: %s", outage)
            await asyncio.sleep(BOOKS_S if self.ready.is_set() else TICK_S)

    async def _keep_books_whole(self) -> None:
        """Look whether the books of this worker's brands come to nothing, and whether a posting is gone."""
        while True:
            try:
                brands = [brand for brand in self._mine(self.ledger.opened) if self.guard.whole]
                self.metrics.imbalance.set(await self.ledger.carrier.money.imbalance_fen(brands))
                self.metrics.chain_ok.set(await self.ledger.carrier.money.chains_ok(brands))
            except OutageError as outage:
                log.warning("the books wait: %s", outage)
            await asyncio.sleep(BOOKS_S)

    async def _keep_time(self) -> None:
        """Publish what is due, while Redis is whole and the partitions stay where they are."""
        while True:
            try:
                if self.ready.is_set() and self.guard.whole and not self.app.rebalancing:
                    await self.timers.tick()
                    self.metrics.tell_waiting(self.timers.oldest_ms, await self.arbiter.now_ms())
            except OutageError as outage:
                log.warning("what is due waits: %s", outage)
            await asyncio.sleep(TICK_S)


def or_end(task: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], Coroutine[Any, Any, None]]:
    """Make a background task end the process when it fails: a worker with half its parts must not go on."""

    async def guarded() -> None:
        try:
            await task()
        except Exception:
            log.exception("a background task failed; stopping unacknowledged")
            end_process(EXIT_BUG)

    return guarded


def run(settings: Settings, kafka_url: str, redis_url: str) -> None:
    """Run one worker until it is told to stop; returns by ``SystemExit``."""
    partitions = asyncio.run(ensure_topics(kafka_url, settings.topic_prefix, settings.partitions))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Worker(settings, kafka_url, redis_url, partitions)
    port = worker.metrics.serve(settings.metrics_port)
    log.info("metrics on http://127.0.0.1:%d/metrics", port)
    service = faust.Worker(
        worker.app,
        loop=loop,
        override_logging=False,
        redirect_stdouts=False,  # standard output belongs to the command line
        quiet=True,
    )
    service.spinner = None  # it would write escape codes into a log file
    service.execute_from_commandline()

"""The load generator: publishes a roster, and a load at a steady rate, to any broker."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice

from aiokafka import AIOKafkaProducer

from router.demo.load import Load
from router.publish import Outgoing, Publisher
from router.topology import bootstrap
from topics.catalog import GUIDES, LEADS, PRESENCE, RESERVATIONS, STORES, Topic
from topics.codec import encode, key_of, partition_of
from topics.fields import Event

_TICK_S = 0.01
_BATCH_MAX = 2_000
_BATCH_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Counts:
    """What was published: records of both topics, good and bad, and how long it took."""

    leads: int
    reservations: int
    elapsed_s: float

    @property
    def total(self) -> int:
        """All records."""
        return self.leads + self.reservations


async def publish_roster(kafka_url: str, prefix: str, events: Iterable[tuple[Topic, Event]]) -> int:
    """Publish stores, guides and presence as fast as the broker takes them; return how many."""
    count = 0
    async with _publisher(kafka_url, prefix, (STORES, GUIDES, PRESENCE)) as publisher:
        records = (
            _outgoing(publisher, prefix, topic, key_of(topic, event), encode(event))
            for topic, event in events
        )
        while batch := list(islice(records, _BATCH_MAX)):
            await publisher.publish(batch)
            count += len(batch)
    return count


async def simulate(
    kafka_url: str, prefix: str, load: Load, rate_per_s: float, progress: Callable[[int], None]
) -> Counts:
    """Publish the load at a steady rate; topics must exist. ``progress`` is told the count so far, each tick.

    A tick that comes late publishes what is due by then, so the rate holds as long as the broker keeps up.
    """
    published: Counter[Topic] = Counter()
    async with _publisher(kafka_url, prefix, (LEADS, RESERVATIONS)) as publisher:
        inputs = load.inputs(lambda: time.time_ns() // 1_000_000)
        started_s = next_tick_s = time.monotonic()
        while True:
            due = int((time.monotonic() - started_s) * rate_per_s) + 1 - published.total()
            batch = list(islice(inputs, min(max(due, 0), _BATCH_MAX)))
            if due > 0 and not batch:
                break
            await publisher.publish(
                [_outgoing(publisher, prefix, each.topic, each.key, each.value) for each in batch]
            )
            published.update(each.topic for each in batch)
            progress(published.total())
            next_tick_s = max(next_tick_s + _TICK_S, time.monotonic())
            await asyncio.sleep(next_tick_s - time.monotonic())
    return Counts(published[LEADS], published[RESERVATIONS], time.monotonic() - started_s)


@asynccontextmanager
async def _publisher(kafka_url: str, prefix: str, topics: Iterable[Topic]) -> AsyncIterator[Publisher]:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap(kafka_url), enable_idempotence=True, max_batch_size=_BATCH_BYTES
    )
    await producer.start()
    try:
        publisher = Publisher(lambda: producer)
        await publisher.discover(prefix + topic.name for topic in topics)
        yield publisher
    finally:
        await producer.stop()


def _outgoing(publisher: Publisher, prefix: str, topic: Topic, key: bytes, value: bytes | None) -> Outgoing:
    name = prefix + topic.name
    return Outgoing(name, partition_of(key, publisher.partitions(name)), key, value)

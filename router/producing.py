"""Publishing from the command line: a producer of its own, and a steady rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import TypeVar

from aiokafka import AIOKafkaProducer

from router.publish import Outgoing, Publisher
from router.topology import bootstrap
from topics.catalog import Topic
from topics.codec import partition_of

#: As many records as are published at once.
BATCH_MAX = 2_000
_TICK_S = 0.01
_BATCH_BYTES = 256 * 1024

T = TypeVar("T")


@asynccontextmanager
async def producing(kafka_url: str, prefix: str, topics: Iterable[Topic]) -> AsyncIterator[Publisher]:
    """Publish to topics that exist, through a producer that lasts as long as the block."""
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


def outgoing(publisher: Publisher, prefix: str, topic: Topic, key: bytes, value: bytes | None) -> Outgoing:
    """One record, on the partition of its key."""
    name = prefix + topic.name
    return Outgoing(name, partition_of(key, publisher.partitions(name)), key, value)


async def steadily(
    items: Iterator[T], rate_per_s: float, send: Callable[[Sequence[T]], Awaitable[None]]
) -> None:
    """Send items at a steady rate until there are no more; ``send`` is called each tick, with none at times.

    A tick that comes late sends what is due by then, so the rate holds as long as the broker keeps up.
    """
    sent = 0
    started_s = next_tick_s = time.monotonic()
    while True:
        due = int((time.monotonic() - started_s) * rate_per_s) + 1 - sent
        batch = list(islice(items, min(max(due, 0), BATCH_MAX)))
        if due > 0 and not batch:
            return
        await send(batch)
        sent += len(batch)
        next_tick_s = max(next_tick_s + _TICK_S, time.monotonic())
        await asyncio.sleep(next_tick_s - time.monotonic())

"""The load generator: publishes a roster, and a load at a steady rate, to any broker."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from router.demo.load import Input, Load
from router.producing import BATCH_MAX, outgoing, producing, steadily
from topics.catalog import GUIDES, LEADS, POLICIES, PRESENCE, RESERVATIONS, STORES, Topic
from topics.codec import encode, key_of
from topics.fields import Event


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
    """Publish stores, guides, presence and policies as fast as the broker takes them; return how many."""
    count = 0
    async with producing(kafka_url, prefix, (STORES, GUIDES, PRESENCE, POLICIES)) as publisher:
        records = (
            outgoing(publisher, prefix, topic, key_of(topic, event), encode(event)) for topic, event in events
        )
        while batch := list(islice(records, BATCH_MAX)):
            await publisher.publish(batch)
            count += len(batch)
    return count


async def simulate(  # noqa: PLR0913, PLR0917 - where, what, how fast, and who is told
    kafka_url: str,
    prefix: str,
    load: Load,
    rate_per_s: float,
    progress: Callable[[int], None],
    published_one: Callable[[Input], None] = lambda _: None,
) -> Counts:
    """Publish the load at a steady rate; topics must exist.

    ``progress`` is told the count at each tick, ``published_one`` each input that the broker has.
    """
    published: Counter[Topic] = Counter()
    async with producing(kafka_url, prefix, (LEADS, RESERVATIONS)) as publisher:

        async def send(batch: Sequence[Input]) -> None:
            await publisher.publish(
                [outgoing(publisher, prefix, each.topic, each.key, each.value) for each in batch]
            )
            published.update(each.topic for each in batch)
            for each in batch:
                published_one(each)
            progress(published.total())

        started_s = time.monotonic()
        await steadily(load.inputs(lambda: time.time_ns() // 1_000_000), rate_per_s, send)
        elapsed_s = time.monotonic() - started_s
    return Counts(published[LEADS], published[RESERVATIONS], elapsed_s)

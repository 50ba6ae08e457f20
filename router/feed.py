"""How reference topics get into a worker: a consumer without a group, from the first record on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

#: How long one poll may wait on the broker. A real broker answers at once when there is something.
POLL_MS = 20


class Feed:
    """Every record of some topics, from the first one on; knows when it has caught up.

    ``topics`` are full names with their partition counts.
    """

    def __init__(self, brokers: Sequence[str], topics: Mapping[str, int]) -> None:
        self._brokers = list(brokers)
        self._partitions = [TopicPartition(name, part) for name, n in topics.items() for part in range(n)]
        self.caught_up = asyncio.Event()
        self.total = 0
        """How many records there were at the start."""

    async def records(self, *, follow: bool = True) -> AsyncIterator[list[ConsumerRecord]]:
        """Yield batches; ``caught_up`` is set once everything there was at the start is out.

        With ``follow`` it goes on for ever, else it ends there.
        """
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=POLL_MS,
        )
        try:
            await consumer.start()
            consumer.assign(self._partitions)
            ends = await consumer.end_offsets(self._partitions)
            begins = await consumer.beginning_offsets(self._partitions)
            self.total = sum(ends.values()) - sum(begins.values())
            while True:
                polled = await consumer.getmany(timeout_ms=200)
                for batch in polled.values():
                    yield batch
                ends = {part: end for part, end in ends.items() if await consumer.position(part) < end}
                if not ends:
                    self.caught_up.set()
                    if not follow:
                        return
        finally:
            await consumer.stop()


async def is_empty(brokers: Sequence[str], topic: str, partitions: int) -> bool:
    """Whether nothing was ever written to a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=list(brokers), group_id=None)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, part) for part in range(partitions)])
    finally:
        await consumer.stop()
    return not any(ends.values())

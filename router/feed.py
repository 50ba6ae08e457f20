"""How reference topics get into a worker: a consumer without a group, from the first record on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord

#: How long one poll may wait on the broker. A real broker answers at once when there is something.
POLL_MS = 20


class Feed:
    """Every record of some topics, from the first one on; knows when it has caught up.

    ``topics`` are full names with their partition counts. With ``since_ms`` it begins with the first record
    that the broker got then or later; and, with a ``group``, ``BEHIND`` records before what the group has
    committed: where it lags, what it has done of late is older than that.
    """

    BEHIND = 100_000
    """How many records before the committed ones are read with a group."""

    def __init__(
        self,
        brokers: Sequence[str],
        topics: Mapping[str, int],
        since_ms: int | None = None,
        group: str | None = None,
    ) -> None:
        self._group = group
        self._brokers = list(brokers)
        self._since_ms = since_ms
        self._partitions = [TopicPartition(name, part) for name, n in topics.items() for part in range(n)]
        self.caught_up = asyncio.Event()
        self.total = 0
        """How many records there were at the start."""

    async def records(self, *, follow: bool = True) -> AsyncGenerator[list[ConsumerRecord], None]:
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
            begins = await self._begins(consumer, ends)
            self.total = sum(ends.values()) - sum(begins.values())
            behind = {part: end for part, end in ends.items() if begins[part] < end}
            while True:
                if not behind:
                    self.caught_up.set()
                    if not follow:
                        return
                polled = await consumer.getmany(timeout_ms=200)
                for batch in polled.values():
                    yield batch
                behind = {part: end for part, end in behind.items() if await consumer.position(part) < end}
        finally:
            await consumer.stop()

    async def _begins(
        self, consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Go to where the reading begins."""
        begins: dict[TopicPartition, int] = await consumer.beginning_offsets(self._partitions)
        filled = [part for part, offset in begins.items() if offset < ends[part]]
        if self._since_ms is None or not filled:
            return begins
        firsts = await consumer.offsets_for_times(dict.fromkeys(filled, 0))
        if not all(firsts.values()):
            return begins  # a broker that cannot look up times, as the embedded one
        found = await consumer.offsets_for_times(dict.fromkeys(filled, self._since_ms))
        done = await self._committed()
        for part, at in found.items():
            by_time = at.offset if at else ends[part]
            begins[part] = max(begins[part], min(by_time, done.get(part, by_time) - self.BEHIND))
            consumer.seek(part, begins[part])
        return begins

    async def _committed(self) -> dict[TopicPartition, int]:
        """How far the group has come in each partition."""
        if self._group is None:
            return {}
        admin = AIOKafkaAdminClient(bootstrap_servers=self._brokers)
        try:
            await admin.start()
            offsets = await admin.list_consumer_group_offsets(self._group)
        finally:
            await admin.close()
        return {part: at.offset for part, at in offsets.items() if at.offset >= 0}

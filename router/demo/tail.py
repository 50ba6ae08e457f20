"""Reads the raw topics from their start, while a run goes on, into the audit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from router.audit import Audit, Report
from router.audit.audit import INPUTS, TOPICS
from router.errors import ConfigError
from router.topology import bootstrap
from topics.catalog import ORDERS

_POLL_MS = 100


class Tail:
    """A reader without a group, so that it disturbs nobody; an async context manager.

    ``watch`` is told each record of ``assignments`` once.

    The broker may drop records before they are read; then the audit is told, because a count that misses
    records proves nothing.

    Raises:
        ConfigError: on entering, when the topics do not exist.

    """

    def __init__(
        self, kafka_url: str, prefix: str, audit: Audit, watch: Callable[[bytes | None], None] | None = None
    ) -> None:
        self.audit = audit
        self._watch = watch
        self._prefix = prefix
        self._brokers = bootstrap(kafka_url)
        self._consumer = AIOKafkaConsumer(
            *(prefix + topic for topic in TOPICS),
            bootstrap_servers=self._brokers,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=20,
        )

    async def __aenter__(self) -> Self:
        """Connect."""
        try:
            await self._refuse_absent_topics()
            await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def read(self) -> int:
        """Feed what has arrived, after waiting for it a little; return how many records that were."""
        arrived = await self._consumer.getmany(timeout_ms=_POLL_MS)
        jumped = [
            partition for partition, records in arrived.items() if records[0].offset > self._next(partition)
        ]
        if jumped:
            await self._check_watermarks(jumped)  # before the records move our place beyond what is missing
        for partition, records in arrived.items():
            for record in records:
                self._feed(partition, record)
        return sum(map(len, arrived.values()))

    async def read_to_end(self) -> None:
        """Feed everything that the topics hold at this moment."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        await self._check_watermarks(ends)  # a partition may have lost all that it held
        for partition, end in ends.items():
            while await self._consumer.position(partition) < end:
                await self.read()

    async def read_answers(self, patience_s: float) -> None:
        """Read on, but no more inputs, until all are answered or nothing new was answered for so long."""
        asking = (*INPUTS, ORDERS.name)
        self._consumer.pause(*(part for part in self._consumer.assignment() if part.topic.endswith(asking)))
        left, deadline_s = self._left, time.monotonic() + patience_s
        while self._left and time.monotonic() < deadline_s:
            await self.read()
            if self._left < left:
                left, deadline_s = self._left, time.monotonic() + patience_s

    @property
    def _left(self) -> int:
        return self.audit.unanswered + self.audit.unposted

    async def _refuse_absent_topics(self) -> None:
        """Asked beforehand, because the consumer would wait for them, or make them appear."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._brokers)
        try:
            await admin.start()
            present = await admin.list_topics()
        finally:
            await admin.close()
        absent = [self._prefix + topic for topic in TOPICS if self._prefix + topic not in present]
        if absent:
            raise ConfigError(f"there is no topic {absent[0]}: is the topic prefix right?")

    def _next(self, partition: TopicPartition) -> int:
        return self.audit.next_offset(partition.topic.removeprefix(self._prefix), partition.partition)

    def _feed(self, partition: TopicPartition, record: ConsumerRecord[bytes, bytes]) -> None:
        topic = partition.topic.removeprefix(self._prefix)
        if self._watch is not None and topic == "assignments":
            self._watch(record.value)
        self.audit.feed(
            topic,
            partition.partition,
            record.offset,
            record.key,
            record.value,
            record.headers,
            record.timestamp,
        )

    async def _check_watermarks(self, partitions: Iterable[TopicPartition]) -> None:
        for partition, oldest in (await self._consumer.beginning_offsets(list(partitions))).items():
            self.audit.low_watermark(partition.topic.removeprefix(self._prefix), partition.partition, oldest)


async def verify(kafka_url: str, prefix: str, *, patience_s: float = 5.0) -> Report:
    """Audit what the topics hold now; answers to the last inputs may come for ``patience_s`` longer.

    Raises:
        ConfigError: there are no such topics, or nothing is in them.

    """
    async with Tail(kafka_url, prefix, Audit()) as tail:
        await tail.read_to_end()
        await tail.read_answers(patience_s)
    report = tail.audit.report()
    if not report.leads_in + report.reservations_in + report.truncated:
        raise ConfigError(f"{prefix}leads and {prefix}reservations are empty: is the topic prefix right?")
    return report

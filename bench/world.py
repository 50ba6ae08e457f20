"""A world of its own for each run of the stream bench: topics, brand, roster, leads, worker, readings."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from router.demo.directory import StoreRow
from router.demo.load import Load
from router.demo.roster import roster
from router.demo.simulate import publish_roster, simulate
from router.demo.worker_process import WorkerProcess
from router.errors import OutageError
from router.topology import bootstrap, ensure_topics
from topics.catalog import ASSIGNMENTS, LEADS, Topic

PARTITIONS = 8
_POLL_S = 0.2
#: How long nothing may be done while something is left to do.
_PATIENCE_S = 60.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a worker is, and what it and Redis have used until then (CPU seconds)."""

    at_s: float
    routed: int
    projected: int
    worker_s: float
    redis_s: float


@dataclass(frozen=True, slots=True)
class World:
    """Topics, group and brand under one name, on a broker and a Redis that it may share with others."""

    kafka_url: str
    redis_url: str
    name: str
    stores: Sequence[StoreRow]
    seed: int

    @property
    def prefix(self) -> str:
        """What the names of its topics begin with."""
        return f"{self.name}."

    async def create(self) -> None:
        """Make the topics; the broker dates the assignments when it has them, not when they were sent."""
        dated = {"message.timestamp.type": "LogAppendTime"}
        await create_topic(self.kafka_url, self.prefix + ASSIGNMENTS.name, dated)
        await ensure_topics(self.kafka_url, self.prefix, PARTITIONS)

    async def publish_roster(self) -> None:
        """Publish the stores, their guides and their presence."""
        now_ms = time.time_ns() // 1_000_000
        events = roster(self.stores, self.seed, brand=self.name, at_ms=now_ms)
        await publish_roster(self.kafka_url, self.prefix, events)

    async def publish_leads(self, leads: int, rate_per_s: float = 1e9) -> None:
        """Publish good and different leads, at a steady rate or as fast as it goes."""
        shares = {"reservation_share": 0.0, "duplicate_share": 0.0, "malformed_share": 0.0}
        load = Load(seed=self.seed, leads=leads, stores=self.stores, brand=self.name, **shares)
        await simulate(self.kafka_url, self.prefix, load, rate_per_s, lambda _: None)

    async def read(self, topic: Topic, count: int) -> list[ConsumerRecord]:
        """The first ``count`` records of a topic, whatever their partition."""
        records: list[ConsumerRecord] = []
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap(self.kafka_url),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            consumer.assign([TopicPartition(self.prefix + topic.name, part) for part in range(PARTITIONS)])
            async with asyncio.timeout(_PATIENCE_S):
                while len(records) < count:
                    for batch in (await consumer.getmany(timeout_ms=200)).values():
                        records += batch
        finally:
            await consumer.stop()
        return records

    def worker(self) -> WorkerProcess:
        """The worker that routes it, to be started."""
        environment = {
            "LEAD_ROUTER_KAFKA_URL": self.kafka_url,
            "LEAD_ROUTER_REDIS_URL": self.redis_url,
            "LEAD_ROUTER_TOPIC_PREFIX": self.prefix,
            "LEAD_ROUTER_GROUP": self.name,
        }
        return WorkerProcess(environment)

    def take_reading(self, worker: WorkerProcess) -> Reading:
        """Ask worker, kernel and Redis."""
        with urlopen(worker.url, timeout=10) as answer:  # noqa: S310 - our own worker's loopback address
            families = text_string_to_metric_families(answer.read().decode())
        done = {
            (sample.labels["topic"], sample.labels["outcome"]): int(sample.value)
            for family in families
            for sample in family.samples
            if sample.name == "leadrouter_events_total"
        }
        with Redis.from_url(self.redis_url) as redis:
            used: Mapping[str, float] = redis.info("cpu")
        return Reading(
            time.monotonic(),
            done.get((LEADS.name, "routed"), 0),
            done.get((ASSIGNMENTS.name, "projected"), 0),
            cpu_s(worker.pid),
            used["used_cpu_sys"] + used["used_cpu_user"],
        )

    async def finish(self, worker: WorkerProcess, *, routed: int, projected: int) -> Reading:
        """Wait until the worker has done so many; raises OutageError when it makes no progress."""
        before, deadline_s = (0, 0), time.monotonic() + _PATIENCE_S
        while True:
            reading = await asyncio.to_thread(self.take_reading, worker)
            done = (reading.routed, reading.projected)
            if reading.routed >= routed and reading.projected >= projected:
                return reading
            if done > before:
                before, deadline_s = done, time.monotonic() + _PATIENCE_S
            if not worker.running or time.monotonic() > deadline_s:
                raise OutageError(f"the worker stopped at {done}; its log ends:\n{worker.log[-2000:]}")
            await asyncio.sleep(_POLL_S)


async def create_topic(kafka_url: str, name: str, configs: Mapping[str, str] | None = None) -> None:
    """Make one topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap(kafka_url))
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=dict(configs or {}))])
    finally:
        await admin.close()


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of a process and all its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

"""A fake Kafka: the log of each partition, committed offsets, and producers that fail in every known way."""

from __future__ import annotations

from typing import NamedTuple

from router.errors import EffectError, OutageError
from tests.simulation.loop import Signal

#: Far shorter than the product's 15 s, so that more tries fit in a run.
TIMEOUT_S = 2.0


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int


class Broker:
    """Logs and committed offsets by (topic, partition)."""

    def __init__(self, loop, now_ms, partitions):
        self.loop = loop
        self._now_ms = now_ms
        self.logs = {(topic, part): [] for topic, count in partitions.items() for part in range(count)}
        self.committed = dict.fromkeys(self.logs, 0)
        self.down_until_s = 0.0
        self.arrived = {topic: Signal(loop) for topic in partitions}
        self.complaints = []

    @property
    def down(self):
        return self.down_until_s > self.loop.now_s

    def wake(self):
        """Let everybody look again who waits for records."""
        for signal in self.arrived.values():
            signal.notify()

    def append(self, topic, partition, key, value, headers=()):
        log = self.logs[topic, partition]
        log.append(Record(topic, partition, len(log), key, value, headers, self._now_ms()))
        self.arrived[topic].notify()
        return len(log) - 1

    def commit(self, tp, offset):
        if offset < self.committed[tp]:
            self.complaints.append(
                f"committed offset of {tp} went back from {self.committed[tp]} to {offset}"
            )
        self.committed[tp] = offset

    def of(self, topic):
        """All records of a topic, partition by partition."""
        return [record for (name, _), log in self.logs.items() if name == topic for record in log]


class Publisher:
    """Stands where ``router.publish.Publisher`` does: one batch per partition, confirmed or in doubt."""

    def __init__(self, broker, faults, process):
        self._broker = broker
        self._loop = broker.loop
        self._faults = faults
        self._process = process

    async def publish(self, records):
        if not records:
            return
        batches = {}
        for record in records:
            batches.setdefault((record.topic, record.partition), []).append(record)
        await self._loop.sleep(self._faults.latency_s())
        fate = "failed" if self._broker.down else self._faults.kafka_fate()
        if fate != "ok":
            self._faults.trace(self._process.name, f"produce of {len(records)} {fate}")
        if fate in {"ok", "slow"}:
            await self._loop.sleep(self._faults.rng.uniform(0.1, TIMEOUT_S) * (fate == "slow"))
            self._write(batches.values())
            await self._loop.sleep(self._faults.latency_s())
            await self._faults.pass_point("c5", self._process)
            return
        if fate == "unforeseen":
            raise EffectError(fate)
        if fate == "unconfirmed":
            self._write(batches.values())
        elif fate == "partly":
            self._write([batch for batch in batches.values() if self._faults.rng.random() < 0.5])
        elif fate == "late":
            delay_s = self._faults.rng.uniform(0.1, 5)
            self._loop.spawn(self._write_later(batches.values()), delay_s=delay_s)
        await self._loop.sleep(TIMEOUT_S)
        raise OutageError(f"produce {fate}")

    def _write(self, batches):
        for batch in batches:
            for record in batch:
                self._broker.append(*record)

    async def _write_later(self, batches):
        self._write(batches)

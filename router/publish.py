"""Publishing whole batches: one awaitable per batch and partition, and delivery known before it returns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    RecordListTooLargeError,
    UnknownProducerId,
)
from aiokafka.producer.transaction_manager import NO_PRODUCER_EPOCH, NO_PRODUCER_ID, PidAndEpoch

from router.errors import EffectError, OutageError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aiokafka import AIOKafkaProducer
    from aiokafka.producer.message_accumulator import BatchBuilder

_LOST_COUNT = (OutOfOrderSequenceNumber, UnknownProducerId)
_TRANSIENT = (KafkaTimeoutError, ProducerClosed, *_LOST_COUNT)  # beside those that aiokafka calls retriable
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class Outgoing(NamedTuple):
    """One record to publish; a value of None deletes its key from a compacted topic."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class _Sealed(NamedTuple):
    """A filled batch; ``first`` is the index, among the records to publish, of its first one."""

    topic: str
    partition: int
    first: int
    batch: BatchBuilder


class Publisher:
    """Publishes through the aiokafka producer that ``producer()`` returns, Faust's own or a bare one."""

    def __init__(self, producer: Callable[[], AIOKafkaProducer | None], timeout_s: float = 15.0) -> None:
        self._producer = producer
        self._timeout_s = timeout_s

    async def discover(self, topics: Iterable[str]) -> None:
        """Learn the partitions of the topics; raises OutageError when the broker does not tell in time."""
        producer = self._ready_producer()
        try:
            async with asyncio.timeout(self._timeout_s):
                for topic in topics:
                    await producer.partitions_for(topic)
        except (KafkaError, TimeoutError) as error:
            raise _trouble(error, index=0, alone=False) from error

    def partitions(self, topic: str) -> int:
        """Return the number of partitions, as far as known (see ``discover``), else 0."""
        return len(self._ready_producer().client.cluster.partitions_for_topic(topic) or ())

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Publish and return when the broker has every record; the order within a partition is kept.

        Raises OutageError when the broker does not confirm in time or for now (any of the records may have
        been written: publish them all again), RefusedError with the index of a record that is too large
        (found here, nothing was sent), EffectError for any other answer.
        """
        producer = self._ready_producer()
        sealed = _seal(producer, records)
        deliveries: list[asyncio.Future[object]] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                for topic, partition, _, batch in sealed:
                    deliveries.append(await producer.send_batch(batch, topic, partition=partition))
                results = await asyncio.gather(*deliveries, return_exceptions=True)
        except (KafkaError, TimeoutError) as error:
            raise _trouble(error, index=0, alone=False) from error
        finally:
            for delivery in deliveries:
                delivery.cancel()  # what nobody awaits any more must not complain that nobody did
        if any(isinstance(result, _LOST_COUNT) for result in results):
            _count_anew(producer)
        troubles = [
            _trouble(result, index=each.first, alone=each.batch.record_count() == 1)
            for each, result in zip(sealed, results, strict=True)
            if isinstance(result, BaseException)
        ]
        if troubles:  # an outage is retried, so it must not hide anything worse
            raise min(troubles, key=lambda trouble: isinstance(trouble, OutageError))

    def _ready_producer(self) -> AIOKafkaProducer:
        producer = self._producer()
        if producer is None:
            raise OutageError("the producer is not started yet, or stopped")
        return producer


def _seal(producer: AIOKafkaProducer, records: Sequence[Outgoing]) -> list[_Sealed]:
    """Fill batches; those of one partition are in the order of their records."""
    bytes_max = producer._max_request_size  # noqa: SLF001 - send() checks it, batches would be refused by the broker
    sealed: list[_Sealed] = []
    filling: dict[tuple[str, int], BatchBuilder] = {}
    for index, (topic, partition, key, value, headers) in enumerate(records):
        record = {"timestamp": None, "key": key, "value": value, "headers": list(headers)}
        batch = filling.get((topic, partition))
        if batch is not None and batch.append(**record) is not None:
            continue
        batch = filling[topic, partition] = producer.create_batch()
        batch.append(**record)  # aiokafka takes the first record of a batch whatever its size
        if batch.size() > bytes_max:
            raise RefusedError(f"a record of {batch.size()} bytes for {topic}: at most {bytes_max}", index)
        sealed.append(_Sealed(topic, partition, index, batch))
    return sealed


def _count_anew(producer: AIOKafkaProducer) -> None:
    """Let an idempotent producer ask for a new id and number its batches from 0.

    A batch that was numbered and then given up, because its partition had no leader for too long, leaves a
    hole in the numbers, and the broker refuses everything behind it for ever. Java's producer does the same.
    """
    numbers = producer._txn_manager  # noqa: SLF001 - aiokafka leaves it to its user, and offers no way
    if numbers is not None and numbers.has_pid():
        numbers._pid_and_epoch = PidAndEpoch(NO_PRODUCER_ID, NO_PRODUCER_EPOCH)  # noqa: SLF001
        numbers._pid_waiter = asyncio.get_running_loop().create_future()  # noqa: SLF001
        numbers._sequence_numbers.clear()  # noqa: SLF001


def _trouble(error: BaseException, *, index: int, alone: bool) -> Exception:
    if isinstance(error, TimeoutError):
        return OutageError("Kafka did not confirm in time")
    if alone and isinstance(error, _TOO_LARGE):
        return RefusedError(f"the broker refuses the record: {error}", index)
    if isinstance(error, _TRANSIENT) or getattr(error, "retriable", False):
        return OutageError(f"Kafka does not answer for now: {error}")
    return EffectError(f"Kafka refuses a batch: {error!r}")

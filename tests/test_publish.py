"""The promises of publishing: all of it in order, or an error that says what to do."""

import uuid

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    InvalidTopicError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    ProducerClosed,
)

from router import transport
from router.errors import EffectError, OutageError, RefusedError
from router.local import EmbeddedKafka
from router.publish import Outgoing, Publisher
from tests.parts import create_topics


@pytest.fixture(scope="module")
def broker():
    with EmbeddedKafka() as broker:
        yield broker


@pytest.fixture
async def producer(broker):
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.url.removeprefix("kafka://"), enable_idempotence=True, max_batch_size=4096
    )
    await producer.start()
    yield producer
    await producer.stop()


@pytest.fixture
def topic():
    return f"assignments-{uuid.uuid4().hex}"


async def read(broker, topic, count):
    """The first so many records of each partition that has any."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.url.removeprefix("kafka://"),
        auto_offset_reset="earliest",
        fetch_max_wait_ms=10,
    )
    await consumer.start()
    consumer.assign([TopicPartition(topic, partition) for partition in range(4)])
    found = [await consumer.getone() for _ in range(count)]
    await consumer.stop()
    return [[each for each in found if each.partition == partition] for partition in range(4)]


async def test_everything_arrives_in_order_over_many_batches(broker, producer, topic):
    records = [Outgoing(topic, n % 3, b"k%d" % n, b"v" * (n % 300)) for n in range(2000)]
    await Publisher(lambda: producer).publish(records)
    found = await read(broker, topic, len(records))
    for partition in range(4):
        sent = [(each.key, each.value) for each in records if each.partition == partition]
        assert [(each.key, each.value) for each in found[partition]] == sent


async def test_headers_and_deletions_arrive(broker, producer, topic):
    headers = (("reason", b"bug"), ("offset", b"7"))
    await Publisher(lambda: producer).publish([Outgoing(topic, 0, b"k", None, headers)])
    ((record,), *_) = await read(broker, topic, 1)
    assert (record.key, record.value, record.headers) == (b"k", None, headers)


async def test_nothing_to_publish_is_fine(producer):
    await Publisher(lambda: producer).publish([])


async def test_partitions_are_known_once_discovered(producer, topic):
    publisher = Publisher(lambda: producer)
    assert publisher.partitions(topic) == 0
    await publisher.discover([topic])
    assert publisher.partitions(topic) == 4


async def test_it_publishes_through_fausts_own_producer_which_is_idempotent(broker, topic):
    import faust  # noqa: PLC0415 - heavy, and this test alone needs it

    app = faust.App("test", broker=transport.broker_url(broker.url), **transport.app_settings())
    publisher = Publisher(lambda: app.producer._producer)
    with pytest.raises(OutageError, match="not started"):
        await publisher.publish([Outgoing(topic, 0, b"k", b"v")])
    await app.producer.start()
    await publisher.publish([Outgoing(topic, 0, b"k", b"v")])
    inner = app.producer._producer
    assert inner._txn_manager.has_pid()
    assert inner._sender._acks == -1
    assert inner._message_accumulator._batch_size == 512 * 1024
    await app.producer.stop()


async def test_f38_a_record_too_large_is_named_and_nothing_is_sent(broker, producer, topic):
    publisher = Publisher(lambda: producer)
    large = Outgoing(topic, 0, b"large", b"x" * 1_048_576)
    with pytest.raises(RefusedError) as refused:
        await publisher.publish(
            [Outgoing(topic, 0, b"before", b""), large, Outgoing(topic, 0, b"after", b"")]
        )
    assert refused.value.index == 1
    await publisher.publish([Outgoing(topic, 0, b"next", b"")])
    ((record,), *_) = await read(broker, topic, 1)
    assert record.key == b"next"


async def test_f35_a_broker_that_hangs_is_an_outage(topic):
    with EmbeddedKafka() as broker:
        producer = AIOKafkaProducer(bootstrap_servers=broker.url.removeprefix("kafka://"))
        await producer.start()
        publisher = Publisher(lambda: producer, timeout_s=0.3)
        await publisher.discover([topic])
        broker.pause()
        with pytest.raises(OutageError, match="in time"):
            await publisher.publish([Outgoing(topic, 0, b"k", b"v")])
        with pytest.raises(OutageError, match="in time"):
            await publisher.discover([f"{topic}-other"])
        broker.resume()
        await publisher.publish([Outgoing(topic, 0, b"k", b"v")])
        await producer.stop()


async def test_a_stopped_producer_is_an_outage(producer, topic):
    publisher = Publisher(lambda: producer)
    await publisher.discover([topic])
    await producer.stop()
    with pytest.raises(OutageError):
        await publisher.publish([Outgoing(topic, 0, b"k", b"v")])


@pytest.mark.parametrize(
    ("error", "records", "expected"),
    [
        (NotEnoughReplicasError(), 1, OutageError),
        (KafkaTimeoutError(), 1, OutageError),
        (ProducerClosed(), 1, OutageError),
        (InvalidTopicError(), 1, EffectError),
        (MessageSizeTooLargeError(), 1, RefusedError),
        (MessageSizeTooLargeError(), 2, EffectError),
    ],
)
async def test_f34_f38_what_the_broker_answers_decides_the_kind_of_trouble(
    producer, topic, error, records, expected
):
    """The embedded broker refuses nothing by itself, so its answer is planted where aiokafka takes it in."""
    fail_partition(producer, {1: error})
    with pytest.raises(expected) as raised:
        await Publisher(lambda: producer).publish(
            [Outgoing(topic, 0, b"k", b"v"), *[Outgoing(topic, 1, b"k", b"v")] * records]
        )
    assert getattr(raised.value, "index", 1) == 1


@pytest.mark.real
async def test_f33_a_hole_in_the_producers_numbers_is_an_outage_and_then_over(real_kafka, topic):
    """A batch given up while its partition had no leader leaves one; without a new id nothing passed again.

    The embedded broker does not look at the numbers.
    """
    if not real_kafka:
        pytest.skip("no real broker")
    await create_topics(real_kafka.url, {topic: 4})
    producer = AIOKafkaProducer(
        bootstrap_servers=real_kafka.url.removeprefix("kafka://"), enable_idempotence=True
    )
    await producer.start()
    publisher = Publisher(lambda: producer)
    await publisher.publish([Outgoing(topic, 0, b"before", b"")])
    producer._txn_manager.increment_sequence_number(TopicPartition(topic, 0), 7)
    with pytest.raises(OutageError, match="OutOfOrder"):
        await publisher.publish([Outgoing(topic, 0, b"lost", b"")])
    for key in (b"after", b"later"):
        await publisher.publish([Outgoing(topic, 0, key, b"")])
    await producer.stop()
    (records, *_) = await read(real_kafka, topic, 3)
    assert [record.key for record in records] == [b"before", b"after", b"later"]


async def test_an_outage_does_not_hide_anything_worse(producer, topic):
    fail_partition(producer, {0: NotEnoughReplicasError(), 1: InvalidTopicError()})
    with pytest.raises(EffectError):
        await Publisher(lambda: producer).publish(
            [Outgoing(topic, 0, b"", b""), Outgoing(topic, 1, b"", b"")]
        )


def fail_partition(producer, errors):
    send_batch = producer.send_batch

    async def failing(batch, topic, *, partition):
        delivery = await send_batch(batch, topic, partition=partition)
        if partition not in errors:
            return delivery
        delivery.cancel()
        failed = delivery.get_loop().create_future()
        failed.set_exception(errors[partition])
        return failed

    producer.send_batch = failing

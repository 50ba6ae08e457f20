"""The topics as the broker has them: created where they are missing, counted, and checked."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from router.errors import ConfigError, OutageError
from topics.catalog import STREAM_RETENTION_MS, TOPICS

#: Copies of each partition, where there are that many brokers.
REPLICATION_MAX = 3

_CONFIGS = {
    "stream": {"retention.ms": str(STREAM_RETENTION_MS)},
    "book": {"retention.ms": "-1"},
    "reference": {"cleanup.policy": "compact"},
}


def bootstrap(kafka_url: str) -> list[str]:
    """``host:port`` of each broker in ``kafka://host:port[,host:port]``."""
    hosts = urlsplit(kafka_url).netloc.split(",")
    return [host if ":" in host else f"{host}:9092" for host in hosts if host]


async def ensure_topics(
    kafka_url: str, prefix: str, partitions: int, *, patience_s: float = 60.0, create: bool = True
) -> dict[str, int]:
    """Create what is missing and return the partition count of every topic by its full name.

    A broker that cannot create topics on request (the embedded one) makes them on their first use. Whoever
    only reads creates nothing.

    Raises:
        OutageError: no broker answered for ``patience_s``.
        ConfigError: member-keyed topics differ in their partition count, or one is absent and not created.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap(kafka_url), request_timeout_ms=10_000)
    try:
        async with asyncio.timeout(patience_s):
            await _start(admin)
            if create:
                await _create(admin, prefix, partitions)
            else:
                await _refuse_absent(admin, prefix)
            counts = await _counts(admin, [prefix + topic.name for topic in TOPICS])
    except TimeoutError:
        raise OutageError(f"no answer about topics from {kafka_url} in {patience_s:g} s") from None
    finally:
        await admin.close()
    _check(prefix, counts)
    return counts


async def _start(admin: AIOKafkaAdminClient) -> None:
    while True:
        try:
            await admin.start()
        except KafkaConnectionError:
            await asyncio.sleep(0.5)
        else:
            return


async def _refuse_absent(admin: AIOKafkaAdminClient, prefix: str) -> None:
    present = set(await admin.list_topics())
    if absent := [prefix + topic.name for topic in TOPICS if prefix + topic.name not in present]:
        raise ConfigError(f"there is no topic {absent[0]}: is LEAD_ROUTER_TOPIC_PREFIX right?")


async def _create(admin: AIOKafkaAdminClient, prefix: str, partitions: int) -> None:
    present = set(await admin.list_topics())
    missing = [topic for topic in TOPICS if prefix + topic.name not in present]
    if not missing:
        return
    cluster = await admin.describe_cluster()
    if cluster["controller_id"] not in {broker["node_id"] for broker in cluster["brokers"]}:
        return  # nobody to ask: the embedded broker makes topics on their first use
    replication = min(REPLICATION_MAX, len(cluster["brokers"]))
    news = [
        NewTopic(prefix + topic.name, partitions, replication, topic_configs=_CONFIGS[topic.kept])
        for topic in missing
    ]
    response = await admin.create_topics(news)
    for name, code, *_ in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise ConfigError(f"topic {name} could not be created: {error.__name__}")


async def _counts(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    """Ask until every topic has a leader: a new topic takes a moment."""
    while True:
        try:
            described = await admin.describe_topics(names)
        except KafkaError:
            described = []
        counts = {
            topic["topic"]: len(topic["partitions"])
            for topic in described
            if not topic["error_code"] and all(part["leader"] >= 0 for part in topic["partitions"])
        }
        if len(counts) == len(names) and all(counts.values()):
            return counts
        await asyncio.sleep(0.1)


def _check(prefix: str, counts: dict[str, int]) -> None:
    by_member = {topic.name: counts[prefix + topic.name] for topic in TOPICS if topic.by_member}
    if len(set(by_member.values())) > 1:
        listing = ", ".join(f"{name}={count}" for name, count in sorted(by_member.items()))
        raise ConfigError(f"member-keyed topics must have one partition count, but: {listing}")

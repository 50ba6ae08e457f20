"""An independent verifier: recomputes every count of a run from its raw topics.

It imports the audit and nothing else of the project. As a program it exits with 1 when something is wrong:

    python tests/verifier.py HOST:PORT [TOPIC_PREFIX]
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer

from router.audit import Audit, Report
from router.audit.audit import TOPICS


async def verify(bootstrap: str, prefix: str = "") -> Report:
    """Audit what the topics hold at this moment."""
    audit = Audit()
    consumer = AIOKafkaConsumer(
        *(prefix + topic for topic in TOPICS),
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
    )
    await consumer.start()
    try:
        partitions = consumer.assignment()
        for partition, oldest in (await consumer.beginning_offsets(partitions)).items():
            audit.low_watermark(partition.topic.removeprefix(prefix), partition.partition, oldest)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            while await consumer.position(partition) < end:
                for source, records in (await consumer.getmany(timeout_ms=100)).items():
                    topic = source.topic.removeprefix(prefix)
                    for record in records:
                        audit.feed(
                            topic,
                            source.partition,
                            record.offset,
                            record.key,
                            record.value,
                            record.headers,
                            record.timestamp,
                        )
    finally:
        await consumer.stop()
    return audit.report()


if __name__ == "__main__":
    found = asyncio.run(verify(*sys.argv[1:3]))
    print(json.dumps(found.as_dict(), indent=1))  # noqa: T201 - a program's answer
    sys.exit(not found.ok)

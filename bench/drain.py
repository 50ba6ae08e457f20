"""One worker empties a topic: what that costs, by part, beside a stock agent on the same messages."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, replace

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.stock_copy import StockCopy
from bench.world import PARTITIONS, World, cpu_s, create_topic
from router.errors import OutageError
from router.publish import Outgoing, Publisher
from router.state.arbiter import Arbiter
from router.state.redis import Scripts
from router.topology import bootstrap
from topics.catalog import ASSIGNMENTS, DECISIONS, LEADS


@dataclass(frozen=True, slots=True)
class Drain:
    """One repeat; CPU in µs per lead."""

    worker_us: float
    projecting_us: float
    redis_us: float
    redis_projecting_us: float
    stock_us: float
    leads_per_s: float
    candidates: float
    waiting_share: float


async def drain(world: World, leads: int) -> Drain:
    """One repeat: the whole way, the projector alone, and the stock agent, on the same leads."""
    await world.create()
    await world.publish_roster()
    await world.publish_leads(leads)
    with world.worker() as worker:
        begin = world.take_reading(worker)
        end = await world.finish(worker, routed=leads, projected=leads)
    routed = end.routed - begin.routed
    candidates, waiting = await _looked_at(world, leads)
    projecting_us, redis_projecting_us = await _project(world, leads)
    return Drain(
        worker_us=(end.worker_s - begin.worker_s) / routed * 1e6,
        projecting_us=projecting_us,
        redis_us=(end.redis_s - begin.redis_s) / routed * 1e6,
        redis_projecting_us=redis_projecting_us,
        stock_us=await _copy(world, leads),
        leads_per_s=routed / (end.at_s - begin.at_s),
        candidates=candidates,
        waiting_share=waiting,
    )


async def _looked_at(world: World, leads: int) -> tuple[float, float]:
    """Guides looked at per lead, and the share of leads that wait, by the decisions."""
    decisions = [orjson.loads(record.value) for record in await world.read(DECISIONS, leads)]
    candidates = statistics.fmean(decision["candidates"] for decision in decisions)
    return candidates, sum("queue" in decision for decision in decisions) / len(decisions)


async def _project(world: World, leads: int) -> tuple[float, float]:
    """CPU µs per assignment, of a worker that only projects and of Redis."""
    # the name has the same length, and its inboxes are new
    other = replace(world, name=world.name[:-1] + "p")
    await other.create()
    scripts = Scripts(world.redis_url)
    # or the worker would begin by bringing Redis up to the log
    since_ms = dict.fromkeys(await scripts.identities(), 0)
    await Arbiter(scripts).note_identities(other.prefix + ASSIGNMENTS.name, since_ms)
    await scripts.close()
    records = await world.read(ASSIGNMENTS, leads)
    old, new = f'"brand":"{world.name}"'.encode(), f'"brand":"{other.name}"'.encode()
    topic = other.prefix + ASSIGNMENTS.name
    copies = [
        Outgoing(topic, record.partition, record.key, record.value.replace(old, new)) for record in records
    ]
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap(world.kafka_url))
    await producer.start()
    try:
        publisher = Publisher(lambda: producer)
        await publisher.discover([topic])
        for start in range(0, len(copies), 2_000):
            await publisher.publish(copies[start : start + 2_000])
    finally:
        await producer.stop()
    with other.worker() as worker:
        begin = other.take_reading(worker)
        end = await other.finish(worker, routed=0, projected=leads)
    projected = end.projected - begin.projected
    return (end.worker_s - begin.worker_s) / projected * 1e6, (end.redis_s - begin.redis_s) / projected * 1e6


async def _copy(world: World, leads: int) -> float:
    """CPU µs per message of the stock agent."""
    source, target = world.prefix + LEADS.name, world.prefix + "copies"
    await create_topic(world.kafka_url, target)
    partitions = [TopicPartition(target, number) for number in range(PARTITIONS)]
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap(world.kafka_url))
    await reader.start()
    try:
        with StockCopy(world.kafka_url, source, target) as stock:
            begin_s, deadline_s = cpu_s(stock.pid), time.monotonic() + 60 + leads / 1_000
            while sum((await reader.end_offsets(partitions)).values()) < leads:
                if not stock.running or time.monotonic() > deadline_s:
                    raise OutageError(f"{stock.name} stopped; its log ends:\n{stock.log[-2000:]}")
                await asyncio.sleep(0.1)
            return (cpu_s(stock.pid) - begin_s) / leads * 1e6
    finally:
        await reader.stop()

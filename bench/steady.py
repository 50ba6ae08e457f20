"""Leads at a steady rate: how long each takes, and what the worker uses meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import orjson

from bench.world import World
from topics.catalog import ASSIGNMENTS

WARM_UP_MS = 2_000


@dataclass(frozen=True, slots=True)
class Steady:
    """Leads at one steady rate: ms from event to published assignment, CPU in µs per lead."""

    rate_per_s: int
    p50_ms: float
    p99_ms: float
    worker_us: float
    redis_us: float


async def steady(world: World, rate_per_s: int, seconds: int) -> Steady:
    """Route leads at a steady rate; the first two seconds are not counted among the latencies."""
    await world.create()
    await world.publish_roster()
    leads = rate_per_s * seconds + rate_per_s * WARM_UP_MS // 1000
    with world.worker() as worker:
        begin = world.take_reading(worker)
        await world.publish_leads(leads, rate_per_s)
        end = await world.finish(worker, routed=leads, projected=leads)
    records = await world.read(ASSIGNMENTS, leads)
    came_ms = np.array([orjson.loads(record.value)["lead_at_ms"] for record in records])
    counted = came_ms >= came_ms.min() + WARM_UP_MS
    took_ms = (np.array([record.timestamp for record in records]) - came_ms)[counted]
    p50_ms, p99_ms = np.percentile(took_ms, (50, 99)).tolist()
    worker_us, redis_us = end.worker_s - begin.worker_s, end.redis_s - begin.redis_s
    return Steady(rate_per_s, p50_ms, p99_ms, worker_us / leads * 1e6, redis_us / leads * 1e6)

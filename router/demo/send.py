"""What ``lead-router simulate`` does: topics, a roster if wanted, then the load with a progress line."""

from __future__ import annotations

import time

from router.config import Settings
from router.demo.load import Load
from router.demo.roster import roster
from router.demo.simulate import Counts, publish_roster, simulate
from router.demo.words import ProgressLine
from router.topology import ensure_topics


async def send(
    kafka_url: str, settings: Settings, load: Load, rate_per_s: float, *, with_roster: bool
) -> Counts:
    """Publish the load to a broker at a steady rate, after the roster of its stores if wanted."""
    target = (kafka_url, settings.topic_prefix)
    await ensure_topics(*target, settings.partitions)
    if with_roster:
        now_ms = time.time_ns() // 1_000_000
        await publish_roster(*target, roster(load.stores, load.seed, brand=load.brand, at_ms=now_ms))
    line = ProgressLine()

    def show(published: int) -> None:
        if line.due:
            line.show(f"published {published:,} inputs on the way to {load.leads:,} good leads")

    try:
        counts = await simulate(*target, load, rate_per_s, show)
        line.show(f"published {counts.total:,} inputs")
        return counts
    finally:
        line.end()

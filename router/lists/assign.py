"""Hand a list out: send its leads, read their answers, until all have one or patience ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from router.config import Settings
from router.lists.answers import Answers, Collected
from router.producing import outgoing, producing, steadily
from router.topology import ensure_topics
from topics.catalog import LEADS
from topics.codec import encode, key_of
from topics.leads import Lead


async def assign(  # noqa: PLR0913, PLR0917 - what, where to, how fast, how long, and whom to tell
    kafka_url: str,
    settings: Settings,
    leads: Sequence[Lead],
    rate_per_s: float,
    wait_s: float,
    collected: Collected,
    progress: Callable[[int], None],
) -> None:
    """Send the leads, each dated as it goes out, and collect their answers.

    Returns once each one has its answer, or ``wait_s`` after the last was sent. ``progress`` is told several
    times a second how many are sent.

    Raises:
        OutageError: the broker does not answer.

    """
    prefix, sent = settings.topic_prefix, 0
    partitions = await ensure_topics(kafka_url, prefix, settings.partitions)
    async with (
        Answers(kafka_url, prefix, partitions, collected) as answers,
        producing(kafka_url, prefix, (LEADS,)) as publisher,
    ):

        async def send(batch: Sequence[Lead]) -> None:
            nonlocal sent
            now_ms = time.time_ns() // 1_000_000
            dated = [replace(lead, occurred_at_ms=now_ms) for lead in batch]
            await publisher.publish(
                [outgoing(publisher, prefix, LEADS, key_of(LEADS, lead), encode(lead)) for lead in dated]
            )
            sent += len(batch)

        sending = asyncio.create_task(steadily(iter(leads), rate_per_s, send))
        deadline_s = float("inf")
        try:
            while not (sending.done() and collected.complete) and time.monotonic() < deadline_s:
                await answers.read()
                progress(sent)
                if sending.done() and deadline_s == float("inf"):
                    sending.result()  # an outage is told at once
                    deadline_s = time.monotonic() + wait_s
            sending.result()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

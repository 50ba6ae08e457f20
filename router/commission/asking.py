"""Publishes what people ask of the book, and waits for what becomes of it where the book tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Literal, NamedTuple

from aiokafka import ConsumerRecord

from router.config import Settings
from router.feed import Feed
from router.producing import outgoing, producing
from router.topology import bootstrap, ensure_topics
from topics.catalog import COMMISSIONS, DEAD_LETTERS, LEDGER_COMMANDS
from topics.codec import BadEventError, decode, encode, key_of
from topics.commissions import LedgerCommand, Posting

#: How far the clock of the worker that answers may be behind ours.
_BEHIND_MS = 60_000


class Answer(NamedTuple):
    """What became of a command: posted, refused with a reason, or nothing was heard of it in time."""

    outcome: Literal["posted", "refused", "silent"]
    posting: Posting | None = None
    reason: str = ""


async def send(kafka_url: str, settings: Settings, command: LedgerCommand) -> None:
    """Publish a command; the broker has it when this returns."""
    prefix = settings.topic_prefix
    await ensure_topics(kafka_url, prefix, settings.partitions, create=False)
    async with producing(kafka_url, prefix, (LEDGER_COMMANDS,)) as publisher:
        key, value = key_of(LEDGER_COMMANDS, command), encode(command)
        await publisher.publish([outgoing(publisher, prefix, LEDGER_COMMANDS, key, value)])


async def ask(
    kafka_url: str,
    settings: Settings,
    command: LedgerCommand,
    wait_s: float,
    answers: Callable[[Posting], bool],
) -> Answer:
    """Publish a command and wait for the posting that answers it, or for its refusal, ``wait_s`` at most."""
    await send(kafka_url, settings, command)
    prefix = settings.topic_prefix
    counts = await ensure_topics(kafka_url, prefix, settings.partitions, create=False)
    names = (prefix + COMMISSIONS.name, prefix + DEAD_LETTERS.name)
    feed = Feed(
        bootstrap(kafka_url), {name: counts[name] for name in names}, command.occurred_at_ms - _BEHIND_MS
    )
    try:
        async with asyncio.timeout(wait_s), aclosing(feed.records()) as arriving:
            async for records in arriving:
                for record in records:
                    found = (_posted if record.topic == names[0] else _refused)(record, command, answers)
                    if found is not None:
                        return found
    except TimeoutError:
        pass
    return Answer("silent")


def _posted(
    record: ConsumerRecord[bytes, bytes], command: LedgerCommand, answers: Callable[[Posting], bool]
) -> Answer | None:
    try:
        posting = decode(Posting, record.value)
    except BadEventError:
        return None
    return Answer("posted", posting) if posting.brand == command.brand and answers(posting) else None


def _refused(
    record: ConsumerRecord[bytes, bytes], command: LedgerCommand, _: Callable[[Posting], bool]
) -> Answer | None:
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    if headers.get("topic") != LEDGER_COMMANDS.name:
        return None
    try:
        about = decode(LedgerCommand, record.value)
    except BadEventError:
        return None
    if (about.brand, about.command_id) != (command.brand, command.command_id):
        return None
    return Answer("refused", reason=headers.get("detail") or headers.get("reason", ""))

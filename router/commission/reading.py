"""Reads the book to its end: an extract of it, or all of it worked out anew and beside Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from router.config import Settings
from router.feed import Feed
from router.ledger.replay import BOOK_TOPICS
from router.rebuild import Progress, differences, replay
from router.reference import REFERENCE_TOPICS
from router.replay import Replay
from router.rules.money.extract import Extract
from router.rules.money.postings import Seal
from router.rules.money.standing import Parked, read
from router.state import keys
from router.state.money import Money
from router.state.redis import Scripts
from router.topology import bootstrap, ensure_topics
from topics.catalog import COMMISSIONS, LEDGER_COMMANDS

#: How often the book is read again because somebody has posted meanwhile.
_TRIES_MAX = 3


async def extract(
    kafka_url: str, settings: Settings, brand: str, names: Iterable[str], progress: Progress
) -> Extract:
    """The postings of a brand that say one of the names (with none: all of them), and its disputes."""
    prefix = settings.topic_prefix
    counts = await ensure_topics(kafka_url, prefix, settings.partitions, create=False)
    book, done = Extract(brand, names), 0
    takes = {prefix + COMMISSIONS.name: book.posting, prefix + LEDGER_COMMANDS.name: book.command}
    feed = Feed(bootstrap(kafka_url), {name: counts[name] for name in takes})
    async for records in feed.records(follow=False):
        for record in records:
            takes[record.topic](record.value)
        done += len(records)
        progress("reading commissions", done, feed.total)
    return book


async def parked(redis_url: str, brand: str, order_id: str) -> tuple[Parked, ...]:
    """The refunds that wait for an order."""
    scripts = Scripts(redis_url)
    try:
        [held] = await Money(scripts).look([(brand, order_id)])
        return read(held.text).parked
    finally:
        await scripts.close()


class Counted(msgspec.Struct, frozen=True):
    """The book of a brand: how many postings, its closed periods, what is open, what its accounts come to."""

    postings: int
    seals: tuple[Seal, ...]
    open_period: str
    imbalance_fen: int


class Difference(msgspec.Struct, frozen=True):
    """What is wrong with a posting, or with the whole book of a brand (``posting_id`` '')."""

    brand: str
    posting_id: str
    what: str


class Verified(msgspec.Struct, frozen=True):
    """``redis``: key to what is wrong with it, None if no Redis was named; ``moving``: it was written to
    all the while, so that what differs may only be newer than the log was.
    """

    brands: dict[str, Counted]
    faults: tuple[Difference, ...]
    redis: dict[str, str] | None
    moving: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not (self.faults or self.redis or any(each.imbalance_fen for each in self.brands.values()))


async def verify(kafka_url: str, redis_url: str | None, settings: Settings, progress: Progress) -> Verified:
    """Work every posting out again from its own inputs; the balances are compared where there is a Redis.

    Where workers post meanwhile the log is read again, until both were read at one point.
    """
    prefix = settings.topic_prefix
    counts = await ensure_topics(kafka_url, prefix, settings.partitions, create=False)
    groups = (REFERENCE_TOPICS, BOOK_TOPICS)
    if redis_url is None:
        return _verified(await replay(kafka_url, prefix, counts, progress, groups), None)
    scripts = Scripts(redis_url)
    try:
        for tries in range(1, _TRIES_MAX + 1):
            expected = await replay(kafka_url, prefix, counts, progress, groups)
            expected.contents = {
                key: wanted for key, wanted in expected.contents.items() if keys.is_of_money(key)
            }
            wrong = await differences(expected, scripts, progress, cells="money")
            moving = bool(wrong) and await _moves(scripts, expected)
            if not moving:
                break
            await asyncio.sleep(tries)
        return _verified(expected, wrong, moving=moving)
    finally:
        await scripts.close()


async def _moves(scripts: Scripts, expected: Replay) -> bool:
    """Whether somebody has posted since the log was read."""
    ledgers = expected.books.ledgers
    heads = await Money(scripts).heads(sorted(expected.brands))
    return any(
        head.seq > (ledgers[brand].last_seq if brand in ledgers else 0) for brand, head in heads.items()
    )


def _verified(expected: Replay, wrong: dict[str, str] | None, *, moving: bool = False) -> Verified:
    brands = {
        brand: Counted(
            len(ledger.postings),
            tuple(seal for _, seal in sorted(ledger.seals.items())),
            ledger.since,
            ledger.imbalance_fen,
        )
        for brand, ledger in sorted(expected.books.ledgers.items())
        if ledger.postings
    }
    return Verified(brands, tuple(Difference(*fault) for fault in expected.books.faults), wrong, moving)

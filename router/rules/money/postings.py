"""What a posting is made of: accounts, ids, periods, bytes, and the seal of a period."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from operator import eq
from typing import Any, NamedTuple

import msgspec
import orjson
from msgspec.structs import replace

from topics.commissions import Posting, PostingKind, PostingLine

#: The group's side of every sale.
COMMISSION = "commission"
#: Where the money of a party lies, in the order in which it is taken back. What was paid cannot be taken: it
#: becomes ``receivable``, which is negative, so that paid and receivable together are what the party keeps.
HELD = ("pending", "earned", "settled")
ACCOUNTS = (COMMISSION, *HELD, "paid", "receivable")
#: What the ids of postings begin with.
LETTERS: dict[PostingKind, str] = {
    "base": "b",
    "overlay": "o",
    "reversal": "r",
    "vest": "v",
    "settle": "s",
    "pay": "p",
    "adjust": "a",
    "close": "c",
}
#: What one posting may hold: the lines of the contract, and bytes that leave room in a message.
LINES_MAX, BYTES_MAX = 256, 60 * 1024
#: The last day that a calendar has, epoch ms.
_LAST_MS = 253_402_214_400_000


class TooLargeError(ValueError):
    """A posting that no message could carry."""


def identity(kind: PostingKind, *cause: str) -> str:
    """The id of the posting of a kind that a cause makes; the parts of a cause hold no ``/``."""
    return LETTERS[kind] + sha256("/".join((kind, *cause)).encode()).hexdigest()[:24]


def day(at_ms: int, utc_offset_h: int) -> str:
    """The day of a time (epoch ms) by the book's clock, ``2026-11-29``."""
    return _day_of_hour(min(at_ms, _LAST_MS) // 3_600_000 + utc_offset_h)


@lru_cache(maxsize=1024)
def _day_of_hour(hour: int) -> str:
    return f"{datetime.fromtimestamp(0, UTC) + timedelta(hours=hour):%Y-%m-%d}"


def month(at_ms: int, utc_offset_h: int) -> str:
    """The period of a time (epoch ms) by the book's clock, ``2026-11``."""
    return day(at_ms, utc_offset_h)[:7]


def month_after(period: str) -> str:
    """The period that follows one."""
    year, number = map(int, period.split("-"))
    return f"{year + number // 12:04}-{number % 12 + 1:02}"


class Page(NamedTuple):
    """Where a brand's book is open: nothing is posted to a period before ``since`` ('' for none closed).

    ``same`` tells whether two ids are of one member.
    """

    brand: str
    since: str
    utc_offset_h: int
    same: Callable[[str, str], bool] = eq

    def period(self, at_ms: int) -> str:
        """Where something of this time is posted: in its own month, or in the first one that is open."""
        return max(month(at_ms, self.utc_offset_h), self.since)


class Draft(NamedTuple):
    """A posting that waits for its ``book_seq``; ``body`` is its JSON from behind that on."""

    posting: Posting
    body: bytes


def drafted(posting: Posting) -> Draft:
    """A posting with its digest, ready for the script to number it.

    Raises:
        TooLargeError: it has too many lines or bytes.

    """
    made = replace(posting, book_seq=0, digest=digest_of(posting))
    fields = msgspec.to_builtins(made)
    del fields["book_seq"]
    body = orjson.dumps(fields)[1:]
    if len(body) > BYTES_MAX or len(made.lines) > LINES_MAX:
        raise TooLargeError(f"{made.kind} {made.posting_id}: {len(made.lines)} lines, {len(body)} bytes")
    return Draft(made, body)


def numbered(body: bytes, book_seq: int) -> bytes:
    """The bytes of a posting, as the script puts them together."""
    return b'{"book_seq":%d,%b' % (book_seq, body)


def digest_of(posting: Posting) -> str:
    """SHA-256, in hex, of a posting without its number and its digest."""
    fields: dict[str, Any] = msgspec.to_builtins(posting)
    fields.pop("book_seq", None)
    fields.pop("digest", None)
    return sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()


class Seal(msgspec.Struct, frozen=True):
    """What a period was when it was closed: how many postings, how many fen moved, and their chain."""

    period: str
    count: int
    sum_fen: int
    last_seq: int
    chain: str


def sealed(period: str, entries: Iterable[tuple[int, str, int]], before: str) -> Seal:
    """The seal of a period over ``(book_seq, digest, moved fen)`` in any order, on the chain ``before`` it.

    Each link is the SHA-256 of the link before, the number and the digest: whatever is changed, left out,
    added or moved changes all links behind it.
    """
    count = sum_fen = last_seq = 0
    chain = before
    for seq, digest, fen in sorted(entries):
        chain = sha256(f"{chain}/{seq}/{digest}".encode()).hexdigest()
        count, sum_fen, last_seq = count + 1, sum_fen + fen, seq
    return Seal(period, count, sum_fen, last_seq, chain)


def moved_fen(lines: Sequence[PostingLine]) -> int:
    """How much a posting moves."""
    return sum(line.fen for line in lines if line.fen > 0)

"""The book of record of shared commission, and the commands that people give to it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from topics.fields import Count, Event, Fen, Id, Ms, Text

#: A settlement period, ``2026-11``.
PeriodName = Annotated[str, Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])(?!\n)$")]


PostingKind = Literal["base", "overlay", "reversal", "vest", "settle", "pay", "adjust", "close"]


class PostingLine(Event, frozen=True):
    """One side of a posting: fen flow into (positive) or out of (negative) an account."""

    account: Id
    role: Text
    party: Id
    fen: Fen


class Posting(Event, frozen=True):
    """Identity: (brand, posting, ``posting_id``); never edited: a correction is a posting of its own.

    ``digest``: SHA-256 of all of it but ``book_seq``, which is given last. A ``close`` moves nothing: it
    seals the period before it.
    """

    posting_id: Id
    book_seq: Count
    brand: Id
    kind: PostingKind
    period: PeriodName
    occurred_at_ms: Ms
    lines: Annotated[tuple[PostingLine, ...], Meta(min_length=2, max_length=256)]
    rule_version: Text
    inputs: dict[str, Any]
    order_id: Id | None = None
    reverses: Id | None = None
    actor: Id | None = None
    checker: Id | None = None
    reason: Text | None = None
    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")] | None = None

    def __post_init__(self) -> None:
        """Money neither appears nor vanishes in a posting."""
        total = sum(line.fen for line in self.lines)
        if total:
            raise ValueError(f"lines: sum to {total} fen, not to zero")


class LedgerCommand(Event, frozen=True):
    """Identity: (brand, command, ``command_id``); ``vest`` comes from the router's own timer.

    A dispute and its release name the order that is frozen; ``posting_id`` is for whoever reads them.
    """

    command_id: Id
    brand: Id
    kind: Literal["close", "dispute", "release", "pay", "adjust", "vest"]
    actor: Id
    occurred_at_ms: Ms
    period: PeriodName | None = None
    posting_id: Id | None = None
    order_id: Id | None = None
    checker: Id | None = None
    reason: Text | None = None
    lines: Annotated[tuple[PostingLine, ...], Meta(max_length=256)] = ()

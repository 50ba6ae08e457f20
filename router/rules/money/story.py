"""The money of one order, for who reads it for the first time: who gets what, why, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from router.rules.money.entitlement import Entitlement, Share
from router.rules.money.extract import Extract
from router.rules.money.statement import Balance, balances, not_yet, orders_of, refunds, vests_ms
from topics.commissions import Posting, PostingLine

_WHOLE_BP = 10_000


class Part(msgspec.Struct, frozen=True):
    """What a party is entitled to of the commission of the whole sale; ``bp``: basis points of it.

    Who has a role but no part is there as well, with 0 fen and the reason.
    """

    role: str
    party: str
    fen: int
    bp: int
    why: str


class Back(msgspec.Struct, frozen=True):
    """A refund: how much of the commission and of the sale, at epoch ms."""

    refund_id: str
    commission_fen: int
    amount_fen: int
    at_ms: int


class Holding(msgspec.Struct, frozen=True):
    """What a party has now, and what it is entitled to of what remains: the same, or it is wrong."""

    role: str
    party: str
    entitled_fen: int
    balance: Balance
    state: str
    not_yet: str


class Entry(msgspec.Struct, frozen=True):
    """A posting, shortened."""

    book_seq: int
    posting_id: str
    kind: str
    period: str
    at_ms: int
    lines: tuple[PostingLine, ...]
    reverses: str | None
    actor: str | None
    checker: str | None
    reason: str | None


class Dispute(msgspec.Struct, frozen=True):
    """By whom an order is disputed, since when (epoch ms) and why."""

    actor: str
    at_ms: int
    reason: str | None


class Story(msgspec.Struct, frozen=True):
    """An order in the book; ``order`` and ``terms`` as they are frozen on its postings."""

    brand: str
    order: Mapping[str, Any]
    terms: Mapping[str, Any]
    vests_ms: int
    base: tuple[Part, ...]
    shared: tuple[Part, ...]
    refunds: tuple[Back, ...]
    remaining_fen: int
    now: tuple[Holding, ...]
    dispute: Dispute | None
    postings: tuple[Entry, ...]
    faults: tuple[str, ...]


def story(book: Extract, order_id: str, now_ms: int) -> Story | None:
    """The story of an order; None if it is not in the book.

    Raises:
        ValueError: naming the field of the inputs that is wrong.

    """
    those = orders_of(book.postings).get(order_id, [])
    first = next((each for each in those if each.kind == "base"), None)
    if first is None:
        return None
    inputs, sold = first.inputs, int(first.inputs["order"]["commission_fen"])
    back = tuple(Back(*row) for row in refunds(those))
    left = sold - sum(each.commission_fen for each in back)
    dispute, of = book.disputes.get(order_id), Entitlement.of(inputs)
    entitled = {(each.role, each.party): each.fen for each in of.shared(left)}
    held, since = balances(those), book.since
    holdings = tuple(
        Holding(
            role=role,
            party=party,
            entitled_fen=entitled.get((role, party), 0),
            balance=(has := held.get((role, party), Balance())),
            state=has.words or "nothing left",
            not_yet=not_yet(has, those, since, now_ms, frozen=dispute is not None),
        )
        for role, party in sorted({**entitled, **held}, key=lambda each: (-entitled.get(each, 0), each))
        if (role, party) in entitled or held[role, party].words
    )
    about = [each for each in book.postings if each.inputs.get("about") == order_id]
    return Story(
        brand=book.brand,
        order=inputs["order"],
        terms=inputs["terms"],
        vests_ms=vests_ms(inputs),
        base=_parts(of.base(sold), sold),
        shared=_parts((*of.shared(sold), *of.without), sold),
        refunds=back,
        remaining_fen=left,
        now=holdings,
        dispute=Dispute(dispute.actor, dispute.occurred_at_ms, dispute.reason) if dispute else None,
        postings=tuple(map(_entry, [*those, *about])),
        faults=tuple(
            f"{each.party} ({each.role}) has {each.balance.kept} fen, not {each.entitled_fen}"
            for each in holdings
            if each.balance.kept != each.entitled_fen
        ),
    )


def _parts(shares: Sequence[Share], whole: int) -> tuple[Part, ...]:
    return tuple(
        Part(
            each.role, each.party, each.fen, (2 * _WHOLE_BP * each.fen + whole) // (2 * whole or 1), each.why
        )
        for each in sorted(shares, key=lambda share: (-share.fen, share.role, share.party))
    )


def _entry(posting: Posting) -> Entry:
    names = Entry.__struct_fields__
    told = {name: getattr(posting, name) for name in names if name != "at_ms"}
    return Entry(**told, at_ms=posting.occurred_at_ms)

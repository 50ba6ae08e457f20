"""The proof that the split leaves the group's own settlement as it is, and what is earned without action."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from router.rules.money.entitlement import Entitlement, Share
from router.rules.money.postings import COMMISSION
from topics.commissions import Posting

Whose = tuple[str, str]
"""Role and party."""


class ProofRow(msgspec.Struct, frozen=True):
    """A party in a role; fen. ``without``: as the group would settle if nobody had ever split anything.

    It is worked out from the sales and refunds alone; ``book``: what the base postings say; ``overlay``: what
    the split adds or takes.
    """

    role: str
    party: str
    without: int
    book: int
    difference: int
    overlay: int


class Proof(msgspec.Struct, frozen=True):
    """A period with and without the overlay; ``differences`` are fen, each must be 0.

    ``group_without`` and ``group_book``: what the group pays in all. ``overlay``: what all split postings
    come to. ``faults`` name the postings that break it.
    """

    brand: str
    period: str
    sales: int
    refunds: int
    rows: tuple[ProofRow, ...]
    group_without: int
    group_book: int
    overlay: int
    difference: int
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether it holds to the fen."""
        return not (self.difference or self.overlay or self.faults)


def prove(brand: str, period: str, postings: Iterable[Posting]) -> Proof:
    """Compare the base postings of a period with what the sales and refunds in it give without any split."""
    without: dict[Whose, int] = defaultdict(int)
    booked: dict[Whose, int] = defaultdict(int)
    over: dict[Whose, int] = defaultdict(int)
    paid = sales = backs = 0
    faults: list[str] = []
    for posting in postings:
        if posting.period != period or posting.kind not in {"base", "overlay", "reversal"}:
            continue
        name = f"posting {posting.posting_id} of order {posting.order_id}"
        if not _is_base(posting):
            if any(line.account == COMMISSION and line.fen for line in posting.lines):
                faults.append(f"{name} is of the split and moves what the group pays")
            for line in posting.lines:
                over[line.role, line.party] += line.fen
            continue
        sales, backs = sales + (posting.kind == "base"), backs + (posting.kind == "reversal")
        try:
            for share, fen in _base_steps(posting):
                without[share.role, share.party] += fen
        except (KeyError, TypeError, ValueError, IndexError) as error:
            faults.append(f"{name} cannot be worked out: {error}")
        for line in posting.lines:
            if line.account == COMMISSION:
                paid -= line.fen
            else:
                booked[line.role, line.party] += line.fen
    whose = sorted({**without, **booked, **over}, key=lambda each: (each[1], each[0]))
    rows = tuple(
        ProofRow(*each, without[each], booked[each], booked[each] - without[each], over[each])
        for each in whose
        if without[each] or booked[each] or over[each]
    )
    meant = sum(row.without for row in rows)
    return Proof(
        brand=brand,
        period=period,
        sales=sales,
        refunds=backs,
        rows=rows,
        group_without=meant,
        group_book=paid,
        overlay=sum(row.overlay for row in rows),
        difference=sum(abs(row.difference) for row in rows) + abs(paid - meant),
        faults=tuple(faults),
    )


class IdleRow(msgspec.Struct, frozen=True):
    """A guide who earned as owner without any action for the member; fen, today and after the split."""

    guide: str
    region: str
    today: int
    split: int


def idle(period: str, postings: Iterable[Posting]) -> tuple[IdleRow, ...]:
    """Income without action in a period, the largest first.

    Raises:
        ValueError: naming the posting that cannot be worked out.

    """
    fens: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for posting in postings:
        if posting.period != period or posting.kind not in {"base", "reversal"} or not _is_base(posting):
            continue
        try:
            of = Entitlement.of(posting.inputs)
            for sign, left in _amounts(posting):
                for at, shares in enumerate((of.base(left), of.shared(left))):
                    for key, fen in of.idle_income(shares).items():
                        fens[key][at] += sign * fen
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"posting {posting.posting_id} cannot be worked out: {error}") from None
    rows = (IdleRow(guide, region, *both) for (guide, region), both in fens.items() if any(both))
    return tuple(sorted(rows, key=lambda row: (-row.today, row.guide)))


def _is_base(posting: Posting) -> bool:
    return posting.kind == "base" or (posting.kind == "reversal" and "held" not in posting.inputs)


def _amounts(posting: Posting) -> list[tuple[int, int]]:
    """What of the commission a base posting adds (+1) and takes (-1): entitlements are on what is left."""
    inputs = posting.inputs
    sold = inputs["order"]["commission_fen"]
    if posting.kind == "base":
        return [(1, sold)]
    left = sold - sum(fen for _, fen in inputs["refunds"])
    return [(-1, left + inputs["refunds"][-1][1]), (1, left)]


def _base_steps(posting: Posting) -> Iterable[tuple[Share, int]]:
    of = Entitlement.of(posting.inputs)
    for sign, fen in _amounts(posting):
        for share in of.base(fen):
            yield share, sign * share.fen

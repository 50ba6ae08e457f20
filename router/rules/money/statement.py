"""What a party has of the book: one line for each sale, what of it lies where, and why it is not paid yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from router.rules.horizon import DAY_MS
from router.rules.money.bearers import meant
from router.rules.money.entitlement import Entitlement
from router.rules.money.evidence import holder
from router.rules.money.extract import Extract
from router.rules.money.postings import ACCOUNTS, COMMISSION
from router.rules.money.standing import place_of
from topics.commissions import LedgerCommand, Posting

#: Where the money of a party can lie, as they stand on a statement.
PLACES = ACCOUNTS[1:]
#: How people call what lies there.
CALLED = {"receivable": "owed back"}
#: By which kind of posting money goes on from an account.
_LEAVES = {"vest": "pending", "settle": "earned", "pay": "settled"}
_THEN = {"pending": "earned", "earned": "settled", "settled": "paid"}


class Balance(msgspec.Struct, frozen=True):
    """Fen by account; ``receivable`` is 0 or negative: what was paid and is owed back."""

    pending: int = 0
    earned: int = 0
    settled: int = 0
    paid: int = 0
    receivable: int = 0

    @property
    def kept(self) -> int:
        """All of it."""
        return self.pending + self.earned + self.settled + self.paid + self.receivable

    @property
    def words(self) -> str:
        """Where something lies, in words; '' for nothing anywhere."""
        return ", ".join(CALLED.get(place, place) for place in PLACES if getattr(self, place))


def balance_of(fens: Mapping[str, int]) -> Balance:
    """A balance from fen by account."""
    return Balance(**{place: fens.get(place, 0) for place in PLACES})


class Line(msgspec.Struct, frozen=True):
    """What a party has of one sale in one role, or of one adjustment; times epoch ms, amounts fen.

    ``order_id`` of an adjustment is the id of its posting. ``sold_fen`` and ``back_fen``: the commission of
    the whole sale and what of it was given back. ``moved_fen``: what came of it in the statement's period.
    ``not_yet``: for all that is not paid, why; '' where nothing is left to come.
    """

    order_id: str
    kind: str
    role: str
    at_ms: int
    period: str
    sold_fen: int
    back_fen: int
    moved_fen: int
    balance: Balance
    state: str
    disputed: bool
    not_yet: str
    why: str


class Total(msgspec.Struct, frozen=True):
    """What one party of a store or region has of the book; ``moved_fen``: in the period."""

    party: str
    moved_fen: int
    balance: Balance


class Statement(msgspec.Struct, frozen=True):
    """Up to the end of ``period``, or with None all there is; ``parties`` where it is a store or region.

    ``of``: what the name stands for: party, store, region. ``total`` is over ``lines``, ``parties_total``
    over ``parties``.
    """

    brand: str
    party: str
    period: str | None
    open_period: str
    of: tuple[str, ...]
    lines: tuple[Line, ...]
    total: Total
    parties: tuple[Total, ...]
    parties_total: Total


def statement(book: Extract, party: str, period: str | None, now_ms: int) -> Statement:
    """The statement of a party, store or region; an extract by its name is enough.

    ``party`` is an id, or with the word of its numbering before it: ``guide:``, ``store:``, ``partner:`` or
    ``region:``; guides, teams and members share theirs.

    Raises:
        AmbiguousError: an id alone stands for several.
        ValueError: naming a posting that cannot be worked out.

    """
    postings = [each for each in book.postings if period is None or each.period <= period]
    whose = meant(postings, party)
    party = whose[1]
    lines = tuple(_lines(book, postings, whose, period, now_ms))
    totals, kinds = _of_place(postings, whose, period)
    kinds = {"party"} | kinds if lines else kinds
    return Statement(
        brand=book.brand,
        party=party,
        period=period,
        open_period=book.since,
        of=tuple(kind for kind in ("party", "store", "region") if kind in kinds),
        lines=lines,
        total=_sum(party, ((each.moved_fen, each.balance) for each in lines)),
        parties=totals,
        parties_total=_sum(party, ((each.moved_fen, each.balance) for each in totals)),
    )


def orders_of(postings: Iterable[Posting]) -> dict[str, list[Posting]]:
    """Postings by the order (or adjustment) that they are about, in their order."""
    out: dict[str, list[Posting]] = defaultdict(list)
    for posting in postings:
        if posting.order_id is not None:
            out[posting.order_id].append(posting)
    return out


def balances(postings: Iterable[Posting]) -> dict[tuple[str, str], Balance]:
    """(role, party) to what they have of these postings."""
    out: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for posting in postings:
        for line in posting.lines:
            if line.account != COMMISSION:
                out[line.role, line.party][line.account] += line.fen
    return {whose: balance_of(fens) for whose, fens in out.items()}


def refunds(postings: Iterable[Posting]) -> list[tuple[str, int, int, int]]:
    """What was given back: refund, fen of the commission, fen of the sale, epoch ms; in the book's order."""
    out = {}
    for posting in postings:
        if posting.kind == "reversal" and "held" not in posting.inputs:
            refund_id, fen = posting.inputs["refunds"][-1]
            out[refund_id] = (refund_id, fen, posting.inputs["refunded_fen"][-1], posting.occurred_at_ms)
    return list(out.values())


def vests_ms(inputs: Mapping[str, Any]) -> int:
    """When the rights window of a sale ends."""
    return int(inputs["order"]["occurred_at_ms"]) + int(inputs["terms"]["rights_days"]) * DAY_MS


def not_yet(
    held: Balance,
    those: Sequence[Posting],
    since: str,
    now_ms: int,
    *,
    frozen: bool,
) -> str:
    """Why what somebody has of an order is not paid, by the postings of the order until then; '' if it is."""
    waits = [place for place in _THEN if getattr(held, place)]
    told = [_waits(place, those, since, now_ms, frozen=frozen) for place in waits]
    if held.receivable:
        told.append("it was paid and then given back: to be returned")
    return "; ".join(told)


def date(at_ms: int) -> str:
    """A time in words."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _disputed(dispute: LedgerCommand | None, held: Balance) -> str:
    if dispute is None or not any(getattr(held, place) for place in _THEN):
        return ""
    why = f": {dispute.reason}" if dispute.reason else ""
    return f"disputed by {dispute.actor} on {date(dispute.occurred_at_ms)}{why}"


def _waits(place: str, those: Sequence[Posting], since: str, now_ms: int, *, frozen: bool) -> str:
    if frozen:
        return f"not {_THEN[place]} until it is released"
    if place == "pending":
        base = next((each for each in those if each.kind == "base"), None)
        at_ms = vests_ms(base.inputs) if base is not None else 0
        if at_ms > now_ms:
            return f"can be given back until {date(at_ms)}"
        return f"its rights window ended {date(at_ms)}: earned at the worker's next look"
    if place == "earned":
        found = [each.period for each in those if each.kind in {"vest", "adjust"}]
        return f"period {max([since, *found])} is open: settled when it is closed"
    found = [each.period for each in those if each.kind in {"settle", "adjust"}]
    return f"settled in {max(found, default=since)}, not paid yet"


def _lines(
    book: Extract, postings: Sequence[Posting], whose: tuple[str, str], period: str | None, now_ms: int
) -> Iterable[Line]:
    numbering, party = whose
    since, disputes, later = (
        book.since,
        book.disputes,
        orders_of(each for each in book.postings if period and each.period > period),
    )
    for order_id, those in orders_of(postings).items():
        mine = {
            each: held
            for each, held in balances(those).items()
            if each[1] == party and holder(each[0]) == numbering
        }
        first = those[0]
        for (role, _), held in mine.items():
            got = _moved(each for each in those if each.kind in {"base", "overlay", "adjust"})[role, party]
            if not (held.kept or held.words or got):
                continue  # the split gave all of it to others at once
            moved = _moved(each for each in those if period in {None, each.period})[role, party]
            dispute = disputes.get(order_id)
            waits = not_yet(held, those, since, now_ms, frozen=dispute is not None)
            yield Line(
                order_id=order_id,
                kind="adjustment" if first.kind == "adjust" else "sale",
                role=role,
                at_ms=first.occurred_at_ms,
                period=first.period,
                sold_fen=first.inputs["order"]["commission_fen"] if first.kind == "base" else 0,
                back_fen=sum(fen for _, fen, _, _ in refunds(those)),
                moved_fen=moved,
                balance=held,
                state=held.words or "given back",
                disputed=dispute is not None,
                not_yet=_since(held, (role, party), later.get(order_id, ()))
                or "; ".join(filter(None, (_disputed(dispute, held), waits))),
                why=_why(first, role, party),
            )


def _since(held: Balance, whose: tuple[str, str], later: Iterable[Posting]) -> str:
    """What has become of it after the period of the statement; '' if nothing has."""
    for posting in later:
        if whose not in {(line.role, line.party) for line in posting.lines}:
            continue
        place = _LEAVES.get(posting.kind, "")
        if place and getattr(held, place):
            return f"{_THEN[place]} since, in {posting.period}"
        if posting.kind == "reversal" and held.words:
            return f"given back since, in whole or part, in {posting.period}"
    return ""


def _moved(postings: Iterable[Posting]) -> dict[tuple[str, str], int]:
    """(role, party) to what postings brought them in all accounts together."""
    out: dict[tuple[str, str], int] = defaultdict(int)
    for posting in postings:
        for line in posting.lines:
            if line.account != COMMISSION:
                out[line.role, line.party] += line.fen
    return out


def _why(first: Posting, role: str, party: str) -> str:
    if first.kind == "adjust":
        about = f" (order {first.inputs['about']})" if "about" in first.inputs else ""
        return f"adjusted by {first.actor}{about}: {first.reason}"
    try:
        shares = Entitlement.of(first.inputs).shared(first.inputs["order"]["commission_fen"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"posting {first.posting_id} cannot be worked out: {error}") from None
    return next((each.why for each in shares if (each.role, each.party) == (role, party)), "")


def _of_place(
    postings: Iterable[Posting], whose: tuple[str, str], period: str | None
) -> tuple[tuple[Total, ...], set[str]]:
    """What each party has of the store or region that is meant, and which of the two it is."""
    fens: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    kinds: set[str] = set()
    for posting in postings:
        about = posting.inputs.get("parties", {})
        for line in posting.lines:
            store, region = place_of(about, line)
            found = {kind for kind, at in (("store", store), ("region", region)) if (kind, at) == whose}
            if line.account == COMMISSION or not found:
                continue
            kinds |= found
            fens[line.party][line.account] += line.fen
            fens[line.party]["moved"] += line.fen if period in {None, posting.period} else 0
    totals = (Total(party, found["moved"], balance_of(found)) for party, found in sorted(fens.items()))
    return tuple(totals), kinds


def _sum(name: str, rows: Iterable[tuple[int, Balance]]) -> Total:
    moved, fens = 0, dict.fromkeys(PLACES, 0)
    for fen, held in rows:
        moved += fen
        for place in PLACES:
            fens[place] += getattr(held, place)
    return Total(name, moved, balance_of(fens))

"""How an order stands: what each party holds of its commission and where, refunds seen, frozen or not.

It follows from the order's postings alone, in any order; beside them it knows what is parked and disputed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import msgspec
import orjson
from msgspec.structs import replace

from router.rules.horizon import AGE_MAX_MS, DAY_MS
from router.rules.money.evidence import holder, known_as
from router.rules.money.postings import COMMISSION, day
from topics.commissions import LedgerCommand, Posting, PostingLine
from topics.orders import Order

#: How long a refund waits for its order: as long as an order may be late.
PARK_MS = AGE_MAX_MS
#: How many refunds may wait for one order: each waits with the record that it came in.
PARKED_MAX = 16
#: What of an order is frozen on its postings.
SALE_FIELDS = (
    "order_id",
    "member_id",
    "occurred_at_ms",
    "amount_fen",
    "commission_fen",
    "store_id",
    "served_by",
    "lead_id",
    "source",
    "price_zone",
    "channel",
)

Held = dict[tuple[str, str, str], int]
"""(account, role, party) to fen; what is 0 is left out."""


class Refund(msgspec.Struct, frozen=True, array_like=True):
    """A part of a sale that was given back."""

    refund_id: str
    commission_fen: int
    amount_fen: int


class Parked(msgspec.Struct, frozen=True, array_like=True):
    """A refund that came before its order, with the record that it came in."""

    refund: Refund
    occurred_at_ms: int
    member_id: str
    value: str
    partition: int
    offset: int
    timestamp: int

    @property
    def until_ms(self) -> int:
        """How long it waits, epoch ms."""
        return self.occurred_at_ms + PARK_MS


class Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    """``digest`` is the sale's, '' before it came; ``vested`` and ``settled`` the periods in which it was.

    ``vests_ms``: when it vests, epoch ms. An adjustment stands like an order, under the id of its posting.
    """

    digest: str = ""
    held: tuple[tuple[str, str, str, int], ...] = ()
    refunds: tuple[Refund, ...] = ()
    parked: tuple[Parked, ...] = ()
    vests_ms: int = 0
    vested: str = ""
    settled: str = ""
    frozen: bool = False

    def at(self, account: str) -> tuple[tuple[str, str, int], ...]:
        """Who holds how much in an account: role, party, fen."""
        return tuple((role, party, fen) for where, role, party, fen in self.held if where == account)

    @property
    def scores(self) -> tuple[int | None, int | None, int | None]:
        """Where it stands among those that wait to vest (epoch ms), to be settled, to be paid (periods).

        None where it does not wait for that; what is frozen waits to be released before it vests. Refunds
        that came before their order are told then that it does not come.
        """
        if not self.digest:
            return min((each.until_ms for each in self.parked), default=None), None, None
        vesting = self.vests_ms if not self.vested and not self.frozen else None
        earned = _number(self.vested) if self.vested and self.at("earned") else None
        return vesting, earned, _number(self.settled) if self.at("settled") else None


UNKNOWN = Standing()
_decoder = msgspec.json.Decoder(Standing)


def read(text: bytes | None) -> Standing:
    """A standing from its text."""
    return _decoder.decode(text) if text else UNKNOWN


def text_of(standing: Standing) -> str:
    """The text of a standing; '' of one that is not known."""
    return "" if standing == UNKNOWN else msgspec.json.encode(standing).decode()


def sale_of(order: Order) -> dict[str, Any]:
    """What is frozen of an order."""
    told: dict[str, Any] = msgspec.to_builtins(order)
    return {name: told[name] for name in SALE_FIELDS if name in told}


def digest_of_sale(sale: Mapping[str, Any]) -> str:
    """Tells whether the same order came again with other content."""
    return sha256(orjson.dumps(sale, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def after(standing: Standing, posting: Posting) -> Standing:
    """How an order stands with one more posting about it, whichever came before."""
    held: Held = defaultdict(int, {(where, role, party): fen for where, role, party, fen in standing.held})
    for line in posting.lines:
        if line.account != COMMISSION:
            held[line.account, line.role, line.party] += line.fen
    rows = tuple((*place, fen) for place, fen in sorted(held.items()) if fen)
    made, inputs = replace(standing, held=rows), posting.inputs
    if posting.kind == "base":
        sale = inputs["order"]
        vests_ms = sale["occurred_at_ms"] + inputs["terms"]["rights_days"] * DAY_MS
        return replace(made, digest=digest_of_sale(sale), vests_ms=vests_ms)
    if posting.kind == "reversal" and len(inputs["refunds"]) > len(made.refunds):
        return replace(made, refunds=refunds_of(inputs))
    if posting.kind == "vest":
        return replace(made, vested=posting.period)
    if posting.kind == "settle":
        return replace(made, settled=max(made.settled, posting.period))
    if posting.kind == "adjust":  # what is adjusted goes the way of what was earned
        settled = posting.period if made.at("settled") else ""
        return replace(made, digest=_digest_of_adjust(posting), vested=posting.period, settled=settled)
    return made


def said(commands: Iterable[LedgerCommand]) -> dict[str, LedgerCommand]:
    """Of each order the last dispute or release, among commands in their order."""
    about = (each for each in commands if each.kind in {"dispute", "release"} and each.order_id is not None)
    return {each.order_id or "": each for each in about}


def refunds_of(inputs: Mapping[str, Any]) -> tuple[Refund, ...]:
    """The refunds that a reversal knows of, its own last."""
    pairs = zip(inputs["refunds"], inputs["refunded_fen"], strict=True)
    return tuple(Refund(refund_id, fen, amount_fen) for (refund_id, fen), amount_fen in pairs)


def _digest_of_adjust(posting: Posting) -> str:
    """Whatever period it was posted to, and whoever its parties were then."""
    told = [posting.inputs["lines"], posting.inputs.get("about")]
    return digest_of_sale({"told": [*told, posting.reason, posting.actor, posting.checker]})


Bumps = dict[tuple[str, str], dict[str, int]]
"""(kind of who, id) to what is added to which field."""


def bumps(postings: Iterable[Posting], utc_offset_h: int) -> Bumps:
    """What postings add to the balances and earnings of parties, stores, regions and of the whole book.

    Parties of one id are apart where their roles have ids of their own, see ``kind_of_party``.

    Fields are ``account|role``, ``p|period`` and ``d|day``; of the book (``book``, '') the accounts alone.
    Days go by the clock that a posting carries, or else by ``utc_offset_h``; a day on which something came
    and went again is 0.
    """
    out: Bumps = defaultdict(lambda: defaultdict(int))
    for posting in postings:
        for who, fields in _bumps(posting, utc_offset_h).items():
            for name, fen in fields.items():
                out[who][name] += fen
    kept = {
        who: {name: fen for name, fen in fields.items() if fen or name.startswith("d|")}
        for who, fields in out.items()
    }
    return {who: fields for who, fields in kept.items() if fields}


def _bumps(posting: Posting, utc_offset_h: int) -> Bumps:
    out: Bumps = defaultdict(lambda: defaultdict(int))
    parties = posting.inputs.get("parties", {})
    today = day(posting.occurred_at_ms, _clock_of(posting.inputs, utc_offset_h))
    for line in posting.lines:
        out["book", ""][line.account] += line.fen
        if line.account == COMMISSION:
            continue
        store, region = place_of(parties, line)
        whose = ((kind_of_party(line.role), line.party), ("store", store), ("region", region))
        for kind, name in whose:
            if name:
                fields = out[kind, name]
                fields[f"{line.account}|{line.role}"] += line.fen
                fields[f"p|{posting.period}"] += line.fen
                fields[f"d|{today}"] += line.fen
    return {who: {name: fen for name, fen in fields.items() if fen} for who, fields in out.items()}


def kind_of_party(role: str) -> str:
    """Under which kind of who a party has its balances: ``party``, ``party-store``, ``party-partner``."""
    kind = holder(role)
    return "party" if kind == "guide" else f"party-{kind}"


def place_of(parties: Mapping[str, Any], line: PostingLine) -> tuple[str | None, str | None]:
    """The store and the region in which a line counts, by what is told of its party."""
    about = known_as(parties, line.role, line.party) or {}
    return line.party if line.role == "store" else about.get("store_id"), about.get("region")


def _clock_of(inputs: Mapping[str, Any], utc_offset_h: int) -> int:
    """By whose clock the day of a posting begins: as it was when its order was sold, or it was adjusted."""
    told = inputs.get("terms", inputs).get("ledger_utc_offset_h", utc_offset_h)
    if type(told) is not int or not -24 < told < 24:  # noqa: PLR2004 - hours of a day
        raise ValueError(f"ledger_utc_offset_h: {told!r:.80} is no offset")
    return told


def _number(period: str) -> int:
    return int(period.replace("-", ""))

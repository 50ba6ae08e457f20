"""The book of commission counted again: what was sold and given back, and what the postings make of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

#: The group's own side; every other account is a party's.
_GROUP_SIDE = "commission"
#: Where a party's money lies until it is paid: it never owes any there.
_HELD = ("pending", "earned", "settled")
#: The kinds of postings that follow from the records of an order.
_OF_ORDERS = ("base", "overlay", "reversal")
#: Orders among which an example is looked for.
_LAST = 300
_DAY_MS = 86_400_000

Position = tuple[str, int, int]
#: Brand and order; and what of it: '' the sale, otherwise a refund.
Order = str
What = tuple[Order, str]
#: Role and who.
Party = tuple[str, str]


class _Asked(NamedTuple):
    position: Position
    fen: int


@dataclass(slots=True)
class _Holding:
    """What a party has of an order: in all accounts, and in those that are not paid yet."""

    all_fen: int = 0
    held_fen: int = 0


class _Posting(NamedTuple):
    kind: str
    order: Order
    #: Who, None on the group's side; account; fen.
    lines: tuple[tuple[Party | None, str, int], ...]


class Totals(NamedTuple):
    """What the topics say of money, all in fen but the counts."""

    orders: int
    refunds: int
    postings: int
    bases: int
    overlays: int
    parties: int
    commission_fen: int
    refunded_fen: int
    pending_fen: int
    earned_fen: int


class Book:
    """Feed it records in any order; each posting counts once, a sale or refund by its first good record."""

    def __init__(self) -> None:
        self._asked: dict[What, list[_Asked]] = defaultdict(list)
        self._dead: set[Position] = set()
        self._digests: dict[str, bytes] = {}
        self._kinds: Counter[str] = Counter()
        self._balances: Counter[str] = Counter()
        self._sums: dict[Order, Counter[str]] = defaultdict(Counter)
        self._held: dict[Order, dict[Party, _Holding]] = defaultdict(dict)
        self._answered: set[What] = set()
        self._open: dict[What, None] = {}
        self._vests_ms: dict[Order, int] = {}
        self.records = 0
        self._unbalanced: set[str] = set()

    def feed_order(self, event: Mapping[str, Any], position: Position) -> None:
        """Take a record of ``orders``; a broken one asks for nothing here."""
        self.records += 1
        brand, name, fen, refund = (
            event.get(key) for key in ("brand", "order_id", "commission_fen", "refund_id")
        )
        if not isinstance(brand, str) or not isinstance(name, str) or type(fen) is not int:
            return
        what = (f"{brand}/{name}", str(refund) if event.get("status") == "refunded" else "")
        self._asked[what].append(_Asked(position, fen))
        if what not in self._answered and position not in self._dead:
            self._open[what] = None

    def refuse(self, position: Position) -> None:
        """Note a dead letter: this record of ``orders`` counts no more."""
        self._dead.add(position)

    def feed_posting(self, event: Mapping[str, Any], value: bytes, place: str) -> None:
        """Take a record of ``commissions``; the same posting again, to the byte, changes nothing."""
        name = f"{event.get('brand')}/{event.get('posting_id')}"
        digest = blake2b(value, digest_size=16).digest()
        if name in self._digests:
            if self._digests[name] != digest:
                self._unbalanced.add(name)
            return
        try:
            posting = _Posting(event["kind"], f"{event['brand']}/{event.get('order_id')}", _lines(event))
            what = _answers(posting, event)
            if posting.kind == "base":
                terms, sale = event["inputs"]["terms"], event["inputs"]["order"]
                self._vests_ms[posting.order] = sale["occurred_at_ms"] + terms["rights_days"] * _DAY_MS
        except (KeyError, TypeError, IndexError):
            self._unbalanced.add(place)
            return
        self._digests[name] = digest
        self._enter(posting)
        fen = sum(fen for *_, fen in posting.lines)
        if fen or (
            posting.kind == "overlay" and any(account == _GROUP_SIDE for _, account, _ in posting.lines)
        ):
            self._unbalanced.add(name)
        if what is not None:
            self._answered.add(what)
            self._open.pop(what, None)
        if posting.kind == "vest":
            self._vests_ms.pop(posting.order, None)

    def _enter(self, posting: _Posting) -> None:
        self._kinds[posting.kind] += 1
        for party, account, fen in posting.lines:
            if party is None:
                continue
            self._balances[account] += fen
            self._sums[posting.order][posting.kind] += fen
            holding = self._held[posting.order].setdefault(party, _Holding())
            holding.all_fen += fen
            holding.held_fen += fen if account in _HELD else 0

    @property
    def open(self) -> int:
        """Sales and refunds that may still be posted."""
        return sum(not self._settled(what) for what in self._open)

    def vesting(self, by_ms: int) -> int:
        """Orders that should have vested by a time and have not."""
        return sum(at_ms < by_ms for at_ms in self._vests_ms.values())

    @property
    def unbalanced(self) -> Collection[str]:
        """Postings that do not sum to nothing, are none, or stand twice with other content."""
        return self._unbalanced

    def unposted(self) -> list[str]:
        """Sales and refunds without their posting; a refund whose sale is not there waits for it."""
        return ["/".join(filter(None, what)) for what in self._open if not self._settled(what)]

    def differences_fen(self) -> dict[Order, int]:
        """By how much the book is off what was sold and given back, by order; none where it is right."""
        given_back = self._given_back()
        out: dict[Order, int] = {}
        for order in dict.fromkeys([*(order for order, _ in self._asked), *self._sums]):
            sold, back = self._fen((order, "")), given_back[order]
            sums, holdings = self._sums.get(order, Counter()), self._held.get(order, {})
            if sold is None:
                # nothing but what was adjusted by hand, or a posting without a sale
                off = sum(abs(sums[kind]) for kind in _OF_ORDERS)
            else:
                off = abs(sums["base"] - sold) + abs(sums["overlay"]) + abs(sums["reversal"] + back)
                if sold == back:
                    parties: Counter[str] = Counter()
                    for (_, party), holding in holdings.items():
                        parties[party] += holding.all_fen
                    off += sum(map(abs, parties.values()))
            off += sum(-holding.held_fen for holding in holdings.values() if holding.held_fen < 0)
            if off:
                out[order] = off
        return out

    def totals(self) -> Totals:
        """The sums over everything."""
        paid = {(order.partition("/")[0], party) for order, held in self._held.items() for _, party in held}
        sales = [what for what in self._asked if not what[1] and self._fen(what) is not None]
        sold = {order: self._fen((order, "")) or 0 for order, _ in sales}
        back = self._given_back()
        refunds = [
            what for what in self._asked if what[1] and what[0] in sold and self._fen(what) is not None
        ]
        return Totals(
            orders=len(sold),
            refunds=len(refunds),
            postings=self._kinds.total(),
            bases=self._kinds["base"],
            overlays=self._kinds["overlay"],
            parties=len(paid),
            commission_fen=sum(sold.values()),
            refunded_fen=sum(back[order] for order in sold),
            pending_fen=self._balances["pending"],
            earned_fen=self._balances["earned"],
        )

    def example(self) -> tuple[str, str] | None:
        """``brand/order`` of many roles and few parties, ``brand/party`` of the guide who earns most.

        The order is one of the last: a small broker has forgotten the first ones.
        """
        fen: Counter[str] = Counter()
        for order, held in self._held.items():
            for (role, party), holding in held.items():
                if role in {"server", "owner"}:
                    fen[f"{order.partition('/')[0]}/{party}"] += holding.held_fen
        if not fen:
            return None
        # four roles are a story; more parties make it no clearer
        rich = {each: min(4, len({role for role, _ in held})) for each, held in self._held.items()}
        last = list(self._held)[-_LAST:]
        order = max(last, key=lambda each: (rich[each], -len(self._held[each])))
        return order, min(fen, key=lambda each: (-fen[each], each))

    def _settled(self, what: What) -> bool:
        """Whether nothing need be posted: all its records are set aside, or its sale is not there."""
        return self._fen(what) is None or (what[1] != "" and self._fen((what[0], "")) is None)

    def _fen(self, what: What) -> int | None:
        """The commission of the first record that was not set aside; None for none."""
        left = [each for each in self._asked.get(what, ()) if each.position not in self._dead]
        return min(left).fen if left else None

    def _given_back(self) -> Counter[Order]:
        out: Counter[Order] = Counter()
        for what in self._asked:
            if what[1]:
                out[what[0]] += self._fen(what) or 0
        return out


def _lines(event: Mapping[str, Any]) -> tuple[tuple[Party | None, str, int], ...]:
    out = []
    for line in event["lines"]:
        account, role, party, fen = line["account"], line["role"], line["party"], line["fen"]
        if type(fen) is not int or not all(isinstance(each, str) for each in (account, role, party)):
            raise TypeError(line)
        out.append(((role, party) if account != _GROUP_SIDE else None, account, fen))
    return tuple(out)


def _answers(posting: _Posting, event: Mapping[str, Any]) -> What | None:
    """Which record this posting is the answer to."""
    if posting.kind == "base":
        return posting.order, ""
    if posting.kind == "reversal":
        return posting.order, event["inputs"]["refunds"][-1][0]
    return None

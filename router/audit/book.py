"""The book of commission counted again: what was sold and given back, and what the postings make of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

#: The group's own side; every other account is a party's.
_GROUP_SIDE = "commission"
#: Where a party's money lies until it is paid: it never owes any there.
_HELD = ("pending", "earned", "settled")
#: The kinds of postings that follow from the records of an order.
_OF_ORDERS = ("base", "overlay", "reversal")
_DAY_MS = 86_400_000

Position = tuple[str, int, int]
#: Brand and order; and what of it: '' the sale, otherwise a refund.
Order = str
What = tuple[Order, str]


class _Asked(NamedTuple):
    position: Position
    fen: int


class _Posting(NamedTuple):
    kind: str
    order: Order
    #: Role and party, None on the group's side; account; fen.
    lines: tuple[tuple[tuple[str, str] | None, str, int], ...]


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
        self._postings: dict[str, tuple[bytes, _Posting]] = {}
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
        if name in self._postings:
            if self._postings[name][0] != digest:
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
        self._postings[name] = digest, posting
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
        sums: dict[Order, Counter[str]] = defaultdict(Counter)
        parties: dict[Order, Counter[str]] = defaultdict(Counter)
        held: dict[Order, Counter[tuple[str, str]]] = defaultdict(Counter)
        for _, posting in self._postings.values():
            for party, account, fen in posting.lines:
                if party is None:
                    continue
                sums[posting.order][posting.kind] += fen
                parties[posting.order][party[1]] += fen
                if account in _HELD:
                    held[posting.order][party] += fen
        orders = dict.fromkeys([*(order for order, _ in self._asked), *sums])
        given_back = self._given_back()
        out: dict[Order, int] = {}
        for order in orders:
            sold, back = self._fen((order, "")), given_back[order]
            if sold is None:
                # nothing but what was adjusted by hand, or a posting without a sale
                off = sum(abs(sums[order][kind]) for kind in _OF_ORDERS)
            else:
                off = abs(sums[order]["base"] - sold) + abs(sums[order]["overlay"])
                off += abs(sums[order]["reversal"] + back)
                if sold == back:
                    off += sum(map(abs, parties[order].values()))
            off += sum(-fen for fen in held[order].values() if fen < 0)
            if off:
                out[order] = off
        return out

    def totals(self) -> Totals:
        """The sums over everything."""
        balances: Counter[str] = Counter()
        paid: set[tuple[str, str]] = set()
        kinds: Counter[str] = Counter()
        for _, posting in self._postings.values():
            kinds[posting.kind] += 1
            for party, account, fen in posting.lines:
                if party is not None:
                    balances[account] += fen
                    paid.add((posting.order.partition("/")[0], party[1]))
        sales = [what for what in self._asked if not what[1] and self._fen(what) is not None]
        sold = {order: self._fen((order, "")) or 0 for order, _ in sales}
        back = self._given_back()
        refunds = [
            what for what in self._asked if what[1] and what[0] in sold and self._fen(what) is not None
        ]
        return Totals(
            orders=len(sold),
            refunds=len(refunds),
            postings=sum(kinds.values()),
            bases=kinds["base"],
            overlays=kinds["overlay"],
            parties=len(paid),
            commission_fen=sum(sold.values()),
            refunded_fen=sum(back[order] for order in sold),
            pending_fen=balances["pending"],
            earned_fen=balances["earned"],
        )

    def example(self) -> tuple[str, str] | None:
        """``brand/order`` with the most roles, ``brand/party`` of the guide who earns most."""
        fen: Counter[str] = Counter()
        parties: dict[Order, set[tuple[str, str]]] = defaultdict(set)
        for _, posting in self._postings.values():
            brand = posting.order.partition("/")[0]
            for party, account, amount in posting.lines:
                if party is None:
                    continue
                parties[posting.order].add(party)
                if party[0] in {"server", "owner"} and account in _HELD:
                    fen[f"{brand}/{party[1]}"] += amount
        if not parties or not fen:
            return None
        roles = {order: len({role for role, _ in those}) for order, those in parties.items()}
        order = min(roles, key=lambda each: (-roles[each], len(parties[each]), each))
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


def _lines(event: Mapping[str, Any]) -> tuple[tuple[tuple[str, str] | None, str, int], ...]:
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

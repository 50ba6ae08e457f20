"""The book read back: every posting worked out again from its own inputs, and what the whole comes to.

Nothing here trusts a posting: whatever is wrong with one is named by its id, and the reading goes on.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec.structs import replace

from router.rules.money.entitlement import Entitlement
from router.rules.money.entries import holds
from router.rules.money.lines import LINES
from router.rules.money.postings import (
    COMMISSION,
    LETTERS,
    Seal,
    digest_of,
    identity,
    month_after,
    moved_fen,
    sealed,
)
from router.rules.money.standing import UNKNOWN, Bumps, Standing, after, bumps, refunds_of, said
from topics.codec import BadEventError, decode
from topics.commissions import LedgerCommand, Posting

_ID = re.compile(rb'"posting_id": ?"([A-Za-z0-9_.@-]{1,64})"')
#: The account that money leaves, by the kinds that take it all from one.
_FROM = {"vest": "pending", "settle": "earned", "pay": "settled"}


class Fault(NamedTuple):
    """What is wrong with a posting, or with the book of a brand (``posting_id`` '')."""

    brand: str
    posting_id: str
    what: str


@dataclass(slots=True)
class Ledger:
    """What the book of one brand comes to; see ``router.state.keys`` for where Redis holds it."""

    postings: dict[str, Posting] = field(default_factory=dict)
    values: dict[str, bytes] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    balances: Bumps = field(default_factory=dict)
    chains: dict[str, dict[str, int]] = field(default_factory=dict)
    seals: dict[str, Seal] = field(default_factory=dict)
    since: str = ""
    last_seq: int = 0

    @property
    def imbalance_fen(self) -> int:
        """What all accounts together come to; anything but 0 is an error."""
        return sum(self.balances.get(("book", ""), {}).values())


@dataclass(slots=True)
class Book:
    """Feed it the records of ``commissions`` and ``ledger-commands``, then ``finish``.

    ``utc_offset_h`` of a brand: by whose clock a day begins.
    """

    utc_offset_h: Callable[[str], int]
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    _commands: dict[str, list[LedgerCommand]] = field(default_factory=lambda: defaultdict(list))

    def take(self, value: bytes | None, place: str) -> None:
        """One record of ``commissions``; ``place`` names it where it cannot name itself."""
        try:
            posting = decode(Posting, value)
        except BadEventError as error:
            found = _ID.search(value or b"")
            self._note("", found[1].decode() if found else place, f"is no posting: {error.detail}")
            return
        ledger = self.ledgers.setdefault(posting.brand, Ledger())
        known = ledger.postings.setdefault(posting.posting_id, posting)
        ledger.values.setdefault(posting.posting_id, value or b"")
        if known is not posting and known != posting:
            self._note(posting.brand, posting.posting_id, "stands twice, with other content")

    def command(self, command: LedgerCommand) -> None:
        """One record of ``ledger-commands``: disputes are nowhere else."""
        self._commands[command.brand].append(command)

    def finish(self) -> None:
        """Work everything out and name every difference."""
        for brand, ledger in self.ledgers.items():
            self._finish(brand, ledger)
        for brand, commands in self._commands.items():
            standings = self.ledgers.setdefault(brand, Ledger()).standings
            for name, last in said(commands).items():
                standings[name] = replace(standings.get(name, UNKNOWN), frozen=last.kind == "dispute")

    def _finish(self, brand: str, ledger: Ledger) -> None:
        by_seq: dict[int, list[Posting]] = defaultdict(list)
        for posting in ledger.postings.values():
            by_seq[posting.book_seq].append(posting)
        ledger.last_seq = max(by_seq, default=0)
        closed: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
        added: Bumps = {}
        for seq in sorted(by_seq):
            for posting in (ordered := sorted(by_seq[seq], key=lambda each: each.posting_id)):
                if len(ordered) > 1:
                    self._note(brand, posting.posting_id, f"book_seq {seq} is given {len(ordered)} times")
                if seq > 1 and seq - 1 not in by_seq:
                    self._note(brand, posting.posting_id, f"book_seq {seq - 1} before it is missing")
                self._enter(brand, ledger, posting, closed)
                try:
                    _add(added, bumps([posting], self.utc_offset_h(brand)))
                except (AttributeError, TypeError, ValueError) as error:
                    self._note(brand, posting.posting_id, f"names no parties: {error}")
        for name, standing in ledger.standings.items():
            self._whole(brand, name, standing, ledger.inputs.get(name, {}))
        ledger.balances = added
        ledger.chains = {
            period: {f"{digest}|{fen}": seq for seq, digest, fen in entries}
            for period, entries in closed.items()
            if period >= ledger.since
        }
        if ledger.imbalance_fen:
            self._note(brand, "", f"the accounts come to {ledger.imbalance_fen} fen, not to 0")

    def _enter(
        self, brand: str, ledger: Ledger, posting: Posting, closed: dict[str, list[tuple[int, str, int]]]
    ) -> None:
        def note(what: str) -> None:
            self._note(brand, posting.posting_id, what)

        digest = digest_of(posting)
        if posting.digest != digest:
            note("is not what it was when it was posted: its digest is another")
        if not posting.posting_id.startswith(LETTERS[posting.kind]):
            note(f"is no id of kind {posting.kind}")
        if posting.period < ledger.since:
            note(f"is in {posting.period}, which was closed")
        closed[posting.period].append((posting.book_seq, digest, moved_fen(posting.lines)))
        name = posting.order_id
        held = ledger.standings.get(name, UNKNOWN) if name is not None else UNKNOWN
        try:
            for fault in _recomputed(posting, held, ledger):
                note(fault)
            if posting.kind == "close":
                self._seal(brand, ledger, posting, closed)
            elif name is not None:
                ledger.standings[name] = after(held, posting)
                if posting.kind in {"base", "adjust"}:
                    ledger.inputs[name] = posting.inputs
        except Exception as error:  # noqa: BLE001 - whatever a hostile posting raises, it is the posting's fault
            note(f"cannot be worked out from its inputs: {type(error).__name__}: {error}")

    def _whole(self, brand: str, name: str, standing: Standing, inputs: dict[str, Any]) -> None:
        """Everybody holds what they are entitled to, or a posting of the order is missing."""
        try:
            lacks = holds(standing, inputs) if standing.digest and "order" in inputs else None
        except Exception as error:  # noqa: BLE001 - as above, and its posting is named there
            lacks = f"{type(error).__name__}: {error}"
        if lacks is not None:
            self._note(brand, identity("base", brand, name), f"order {name} is not whole: {lacks}")

    def _seal(
        self,
        brand: str,
        ledger: Ledger,
        posting: Posting,
        closed: dict[str, list[tuple[int, str, int]]],
    ) -> None:
        told = {name: posting.inputs[name] for name in Seal.__struct_fields__}
        period = told["period"]
        if posting.posting_id != identity("close", brand, period):
            self._note(brand, posting.posting_id, "is not the id of this close")
        before = ledger.seals[max(ledger.seals)].chain if ledger.seals else ""
        seal = sealed(period, closed[period], before)
        for name, value in told.items():
            if getattr(seal, name) != value:
                what = f"seals {period} with {name} {value!r:.80}, the postings have {getattr(seal, name)}"
                self._note(brand, posting.posting_id, what)
        ledger.seals[period] = seal
        ledger.since = max(ledger.since, month_after(period))

    def _note(self, brand: str, posting_id: str, what: str) -> None:
        self.faults.append(Fault(brand, posting_id, what[:500]))


def _recomputed(posting: Posting, held: Standing, ledger: Ledger) -> Iterable[str]:
    """What is wrong with a posting that stands after the others of its order."""
    inputs, kind = posting.inputs, posting.kind
    of = Entitlement.of(inputs) if kind in {"base", "overlay", "reversal"} else None
    lines = LINES[kind](inputs, of)
    if sorted(lines, key=repr) != sorted(posting.lines, key=repr):
        yield f"its lines are {_told(posting.lines)}, its inputs give {_told(lines)}"
    cause = _cause(posting)
    if cause is not None and posting.posting_id != identity(kind, *cause):
        yield "is not the id of what caused it"
    if kind == "base" and held.digest:
        yield f"order {posting.order_id} is sold twice"
    if kind in _FROM and not set(map(tuple, inputs["held"])) <= set(held.at(_FROM[kind])):
        yield f"moves what order {posting.order_id} does not hold in {_FROM[kind]}"
    if of is not None and kind != "base":
        yield from _belongs(posting, held, ledger, of)


def _belongs(posting: Posting, held: Standing, ledger: Ledger, of: Entitlement) -> Iterable[str]:
    """What is wrong between a posting and the sale that it is about."""
    inputs, sold = posting.inputs, ledger.inputs.get(posting.order_id or "")
    if sold is None or any(inputs.get(name) != sold.get(name) for name in sold):
        yield f"its inputs are not those under which order {posting.order_id} was sold"
    if posting.kind == "reversal":
        refunds = refunds_of(inputs)
        of_split = "held" in inputs
        if (refunds if of_split else refunds[:-1]) != held.refunds:
            yield f"does not follow the refunds before it, {[each.refund_id for each in held.refunds]}"
        if len({each.refund_id for each in refunds}) < len(refunds):
            yield "takes a refund back twice"
        if of_split and not _held_before(inputs, held, of):
            yield f"is not about what order {posting.order_id} holds"
        # an overlay that changed nothing is not in the book; its reversal may be
        wanted = identity("overlay" if of_split else "base", posting.brand, posting.order_id or "")
        if posting.reverses != wanted:
            yield f"reverses {posting.reverses}, and not {wanted} of its own sale"


def _held_before(inputs: dict[str, Any], held: Standing, of: Entitlement) -> bool:
    """Whether a reversal of the split goes by what was held before the reversal of the base."""
    then: dict[tuple[str, str, str], int] = defaultdict(int)
    for *place, fen in inputs["held"]:
        then[tuple(place)] += fen
    for line in LINES["reversal"]({name: value for name, value in inputs.items() if name != "held"}, of):
        if line.account != COMMISSION:
            then[line.account, line.role, line.party] += line.fen
    return {place: fen for place, fen in then.items() if fen} == {tuple(row[:3]): row[3] for row in held.held}


def _cause(posting: Posting) -> tuple[str, ...] | None:
    """What the id of a posting is made of, where the posting tells it."""
    order_id, inputs = posting.order_id or "", posting.inputs
    if posting.kind in {"base", "overlay", "vest"}:
        return (posting.brand, order_id)
    if posting.kind == "reversal":
        of = "overlay" if "held" in inputs else "base"
        return (posting.brand, order_id, inputs["refunds"][-1][0], of)
    if posting.kind == "settle":
        return (posting.brand, order_id, posting.period)
    if posting.kind in {"pay", "adjust"} and "command_id" in inputs:
        command_id = inputs["command_id"]
        adjusts = posting.kind == "adjust"
        return (posting.brand, command_id) if adjusts else (posting.brand, order_id, command_id)
    return None


def _add(to: Bumps, more: Bumps) -> None:
    for who, fields in more.items():
        held = to.setdefault(who, {})
        for name, fen in fields.items():
            held[name] = held.get(name, 0) + fen


def _told(lines: Iterable[Any]) -> str:
    return ", ".join(f"{line.account} {line.role} {line.party} {line.fen:+d}" for line in lines)[:200]

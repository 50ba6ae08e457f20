"""The story of money: a batch of ``orders`` or of ``ledger-commands`` becomes postings.

How the orders of a batch stand is read in one round trip; what follows is decided (``router.rules.entries``);
the script posts it, each order only if it still stands as it was read; the broker gets the postings; only
then does the caller acknowledge. Whoever comes back after a crash finds the bytes that were posted, and
publishes those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import msgspec
import orjson

from router.errors import EffectError, OutageError
from router.evidence import Gathering
from router.outbox import Outbox
from router.publish import Publisher
from router.reference import Reference
from router.rules.entries import (
    Change,
    adjust,
    close,
    freeze,
    give_back,
    park,
    pay,
    sell,
    settle,
    take_off,
    vest,
)
from router.rules.intake import Record, Refusal, RefusalReason, decoded
from router.rules.lines import Inputs
from router.rules.postings import Page, TooLargeError, month, sealed
from router.rules.standing import Parked, Refund, Standing, read, said, sale_of, text_of
from router.state import keys
from router.state.money import Held, Money, Whose, Write
from topics.commissions import LedgerCommand
from topics.orders import Order

#: How often it is decided anew because somebody else has posted for the same order meanwhile.
TRIES_MAX = 8
#: Orders that a command looks at in one go.
CHUNK = 500
#: How far the clocks of the broker and of the router's timers may be apart.
CLOCKS_MS = 60_000
#: How the bytes of a posting begin.
_BEGINS = re.compile(rb'\{"book_seq":(\d+),"posting_id":"([^"]+)"')

#: What the script refuses of a balance: the reason, and how it is told.
_REFUSES: dict[str, tuple[RefusalReason, str]] = {
    "beyond": ("command_refused", "would fall below 0, or rise above it"),
    "over": ("too_large", "would be more than can be counted"),
}

Decide = Callable[[Page, Standing, Inputs, Inputs | None], Change]
"""From the open page, how the order stands, what it was sold under, and what was gathered for a sale now."""


E = TypeVar("E", LedgerCommand, Order)


class Ask(NamedTuple):
    """What one record asks of one order; ``sale`` where evidence has to be gathered for it."""

    brand: str
    order_id: str
    record: Record
    decide: Decide
    sale: Order | None = None

    @property
    def whose(self) -> Whose:
        """Which order."""
        return self.brand, self.order_id


@dataclass(slots=True)
class _Waited:
    """The record of a refund that was parked."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


@dataclass(slots=True)
class _Done:
    """What became of some asks."""

    refusals: list[Refusal] = field(default_factory=list)
    values: list[tuple[str, bytes]] = field(default_factory=list)
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """The steps of the way and the parts they touch; ``opened``: brands whose book is known to be whole."""

    reference: Reference
    money: Money
    gathering: Gathering
    publisher: Publisher
    outbox: Outbox
    opened: set[str] = field(default_factory=set)

    async def open(self) -> None:
        """Open the books of brands that are new: there is nothing in the log that they could lack."""
        if brands := [brand for brand in self.reference.roster.brands if brand not in self.opened]:
            await self.money.mark(brands, await self.money.begin(brands, uuid4().hex))
            self.opened.update(brands)

    async def orders(self, records: Sequence[Record]) -> list[Refusal]:
        """Post a batch of sales and refunds; what is bad or does not fit comes back refused.

        When this returns the broker has every posting.
        """
        events, refusals = self._of_known_brands(*decoded(Order, records))
        done = await self.carry([_asked(order, record) for order, record in events])
        await self._publish(done.values)
        return refusals + done.refusals

    async def commands(self, records: Sequence[Record]) -> list[Refusal]:
        """Carry out a batch of commands, in their order; what is refused comes back."""
        events, refusals = self._of_known_brands(*decoded(LedgerCommand, records))
        for brand in dict.fromkeys(command.brand for command, _ in events):
            # whoever died between posting and publishing: their record may not come again
            await self._publish([(brand, value) for value in await self.money.unpublished(brand)])
        for kind, those in groupby(events, key=lambda each: each[0].kind):
            if kind == "vest":
                refusals += await self._vest(list(those))
                continue
            for command, record in those:
                refusals += await _COMMANDS[kind](self, command, record)
        return refusals

    def _of_known_brands(
        self, events: list[tuple[E, Record]], refusals: list[Refusal]
    ) -> tuple[list[tuple[E, Record]], list[Refusal]]:
        """Set aside what is of a brand that has no store: nobody opens its book."""
        known: list[tuple[E, Record]] = []
        for event, record in events:
            if event.brand in self.opened:
                known.append((event, record))
            elif event.brand in self.reference.roster.brands:
                raise OutageError(f"{event.brand}: its book is not open yet")
            else:
                refusals.append(Refusal(record, "unknown", f"brand: no store of {event.brand} is known"))
        return known, refusals

    # -- what every step goes through

    async def carry(self, asks: Sequence[Ask]) -> _Done:
        """Decide and post, again for those whose order somebody else has changed meanwhile."""
        done, left = _Done(), list(asks)
        for _ in range(TRIES_MAX):
            if not left:
                return done
            left = await self._try(left, done)
        if left:
            raise OutageError("orders are being posted by somebody else all the time")
        return done

    async def _try(self, asks: Sequence[Ask], done: _Done) -> list[Ask]:
        orders: dict[Whose, list[Ask]] = {}
        for ask in asks:
            orders.setdefault(ask.whose, []).append(ask)
        names = list(orders)
        held = dict(zip(names, await self.money.look(names), strict=True))
        pages = await self._pages({brand for brand, _ in names})
        # evidence is gathered once, for the first record of an order that nobody has sold yet
        sales = {
            whose: next(filter(None, (ask.sale for ask in those)), None)
            for whose, those in orders.items()
            if not read(held[whose].text).digest
        }
        fresh = {whose: sale for whose, sale in sales.items() if sale is not None}
        gathered = dict(zip(fresh, await self.gathering.gather(list(fresh.values())), strict=True))
        made: list[tuple[list[Ask], Change, list[Refusal], Write | None]] = []
        for whose, those in orders.items():
            change, refusals = _fold(pages[whose[0]], held[whose], those, gathered.get(whose))
            write = _write(pages[whose[0]], held[whose], change)
            made.append((those, change, refusals, write))
        writes = [write for *_, write in made if write is not None]
        results = iter(await self.money.post(writes))
        stale: list[Ask] = []
        again: list[Whose] = []
        for those, change, refusals, write in made:
            result, values = ("ok", []) if write is None else next(results)
            if result == "stale":
                stale += those
                continue
            if result == "conflict":
                raise EffectError(f"order {change.order_id}: its posting ids hold other postings")
            if result in _REFUSES:
                done.refusals += [_beyond(ask, change, result, values) for ask in those]
                continue
            done.refusals += refusals
            done.changed += result == "ok" and write is not None
            done.values += [(those[0].brand, value) for value in values]
            again += [(those[0].brand, name) for name in change.again]
        stored = await self.money.stored(again)
        done.values += [
            (brand, value) for (brand, _), value in zip(again, stored, strict=True) if value is not None
        ]
        return stale

    async def _pages(self, brands: Iterable[str]) -> dict[str, Page]:
        heads = await self.money.heads(sorted(brands))
        return {
            brand: Page(brand, head.since, self.offset_h(brand), partial(self.reference.same_member, brand))
            for brand, head in heads.items()
        }

    def offset_h(self, brand: str) -> int:
        """By whose clock the days of a brand's book begin."""
        return self.reference.policy(brand).commission.ledger_utc_offset_h

    async def _publish(self, values: Sequence[tuple[str, bytes]]) -> None:
        """Publish postings in the order of their numbers; once the broker has them, let go of them."""
        found: dict[Whose, tuple[int, bytes]] = {}
        for brand, value in values:
            if (begins := _BEGINS.match(value)) is None:
                raise EffectError(f"{brand}: no posting begins with {value[:80]!r}")
            found[brand, begins[2].decode()] = (int(begins[1]), value)
        ordered = sorted(found.items(), key=lambda each: (each[0][0], each[1]))
        await self.publisher.publish(
            [self.outbox.posting(brand, value) for (brand, _), (_, value) in ordered]
        )
        await self.money.published(found)

    # -- commands

    async def _vest(self, events: Sequence[tuple[LedgerCommand, Record]]) -> list[Refusal]:
        """The rights windows of orders are over."""
        asks = [
            Ask(
                command.brand,
                command.order_id,
                record,
                partial(_vested, command, at_ms=_time_of(command, record)),
            )
            for command, record in events
            if command.order_id is not None
        ]
        done = await self.carry(asks)
        await self._publish(done.values)
        lacking = [record for command, record in events if command.order_id is None]
        return [*done.refusals, *(_refused(record, "order_id: is required to vest") for record in lacking)]

    async def _close(self, command: LedgerCommand, record: Record) -> list[Refusal]:
        """Settle what was earned until the end of a period, then seal it, and those before it."""
        period, brand = command.period, command.brand
        if period is None:
            return [_refused(record, "period: is required to close")]
        if period > month(_time_of(command, record), self.offset_h(brand)):
            return [_refused(record, f"period: {period} has not begun")]
        if not (await self.money.heads([brand]))[brand].unsealed(period):
            return []  # closed before
        refusals = await self._sweep(command, record, keys.earned(brand), settle)
        while unsealed := (await self.money.heads([brand]))[brand].unsealed(period):
            await self._seal(command, unsealed)
        return refusals

    async def _seal(self, command: LedgerCommand, period: str) -> None:
        """Let nothing more be posted to a period, however busy it is, then seal what it has become."""
        brand, offset_h = command.brand, self.offset_h(command.brand)
        await self.money.shut(brand, period)
        entries = await self.money.chain(brand, period)
        seal = sealed(period, entries, (await self.money.heads([brand]))[brand].chain)
        draft = close(Page(brand, period, offset_h), seal, command)
        [(result, values)] = await self.money.post(
            [Write(brand, Change("", Standing(), (draft,)), b"", offset_h, seal)]
        )
        if result == "short":
            raise EffectError(f"{brand}: {period} cannot be sealed: its chain and its count differ")
        await self._publish([(brand, value) for value in values])

    async def _pay(self, command: LedgerCommand, record: Record) -> list[Refusal]:
        """Pay what was settled until the end of a closed period."""
        brand, period = command.brand, command.period
        if period is None or period >= (await self.money.heads([brand]))[brand].since:
            return [_refused(record, f"period: {period} is not closed, nothing of it can be paid")]
        if any(line.fen for line in command.lines):
            return [_refused(record, "lines: name whom to pay, with 0 fen: all that is settled is paid")]
        refusals = await self._sweep(command, record, keys.settled(brand), pay)
        # only now it is known how much there is to take it off from
        return refusals + await self._sweep(command, record, keys.settled(brand), take_off)

    async def _sweep(
        self,
        command: LedgerCommand,
        record: Record,
        key: str,
        move: Callable[[Page, str, Standing, Inputs, LedgerCommand], Change],
    ) -> list[Refusal]:
        """Move the orders that wait in a sorted set up to the command's period, chunk by chunk."""
        until, refusals = int((command.period or "").replace("-", "")), list[Refusal]()
        async for names in self.money.waiting(key, until, CHUNK):
            done = await self.carry(
                [Ask(command.brand, name, record, partial(_swept, command, name, move)) for name in names]
            )
            await self._publish(done.values)
            refusals += done.refusals
        return refusals

    async def dispute(self, command: LedgerCommand, record: Record) -> list[Refusal]:
        """Freeze an order, or let it go on; which one the command says itself, so all who read it agree."""
        told = said([command])
        if not told:
            what = (
                "order_id: is required, a posting alone is forgotten or not yet known by some who read this"
            )
            return [_refused(record, what)]
        [order_id] = told
        decide = partial(_frozen, order_id, frozen=command.kind == "dispute")
        return (await self.carry([Ask(command.brand, order_id, record, decide)])).refusals

    async def _adjust(self, command: LedgerCommand, record: Record) -> list[Refusal]:
        """Post a correction by hand."""
        brand = command.brand
        parties = {
            line.party: msgspec.to_builtins(self.reference.party(brand, line.party)) for line in command.lines
        }
        above_fen = self.reference.policy(brand).commission.adjust_check_fen
        decide = partial(_adjusted, command, parties, above_fen)
        name = adjust(Page(brand, "", 0), Standing(), command, parties, above_fen).order_id
        done = await self.carry([Ask(brand, name, record, decide)])
        await self._publish(done.values)
        return done.refusals


_COMMANDS = {
    "close": Ledger._close,  # noqa: SLF001 - its own
    "pay": Ledger._pay,  # noqa: SLF001 - its own
    "dispute": Ledger.dispute,
    "release": Ledger.dispute,
    "adjust": Ledger._adjust,  # noqa: SLF001 - its own
}


def _asked(order: Order, record: Record) -> Ask:
    if order.status == "paid":
        return Ask(order.brand, order.order_id, record, partial(_sold, order), order)
    return Ask(order.brand, order.order_id, record, partial(_given_back, order, record))


def _sold(order: Order, page: Page, standing: Standing, inputs: Inputs, gathered: Inputs | None) -> Change:
    # an order that is in the book already is compared by what it says, not by what is known of it now
    known = {**inputs, "order": sale_of(order)} if standing.digest else gathered
    return sell(page, standing, known or {})


def _given_back(
    order: Order, record: Record, page: Page, standing: Standing, inputs: Inputs, _: Inputs | None
) -> Change:
    if not standing.digest:
        return park(order.order_id, standing, parked_of(order, record))
    return give_back(page, standing, inputs, _refund_of(order), order.occurred_at_ms, order.member_id)


def parked_of(order: Order, record: Record) -> Parked:
    """A refund that waits for its order, with the record that it came in."""
    value, place = (record.value or b"").decode(), (record.partition, record.offset, record.timestamp)
    return Parked(_refund_of(order), order.occurred_at_ms, order.member_id, value, *place)


def _refund_of(order: Order) -> Refund:
    return Refund(order.refund_id or "", order.commission_fen, order.amount_fen)


def _time_of(command: LedgerCommand, record: Record) -> int:
    """When a command was given, epoch ms: by the broker's clock where its own is ahead of that."""
    if record.timestamp <= 0:
        return command.occurred_at_ms
    return min(command.occurred_at_ms, record.timestamp + CLOCKS_MS)


def _vested(
    command: LedgerCommand, page: Page, standing: Standing, inputs: Inputs, _: Inputs | None, *, at_ms: int
) -> Change:
    return vest(page, command.order_id or "", standing, inputs.get("parties", {}), at_ms)


def _swept(  # noqa: PLR0913, PLR0917 - what the step is told, then what it is asked of
    command: LedgerCommand,
    order_id: str,
    move: Callable[[Page, str, Standing, Inputs, LedgerCommand], Change],
    page: Page,
    standing: Standing,
    inputs: Inputs,
    _: Inputs | None,
) -> Change:
    return move(page, order_id, standing, inputs.get("parties", {}), command)


def _frozen(
    order_id: str, _: Page, standing: Standing, __: Inputs, ___: Inputs | None, *, frozen: bool
) -> Change:
    return freeze(order_id, standing, frozen=frozen)


def _adjusted(
    command: LedgerCommand,
    parties: Inputs,
    above_fen: int,
    page: Page,
    standing: Standing,
    _: Inputs,
    __: Inputs | None,
) -> Change:
    return adjust(page, standing, command, parties, above_fen)


def _fold(
    page: Page, held: Held, asks: Sequence[Ask], gathered: Inputs | None
) -> tuple[Change, list[Refusal]]:
    """What follows from the records about one order, one on top of the other."""
    inputs: Mapping[str, Any] = orjson.loads(held.inputs) if held.inputs else {}
    made, refusals = Change(asks[0].order_id, read(held.text)), []
    for ask in asks:
        try:
            change = ask.decide(page, made.standing, inputs, gathered)
        except TooLargeError as error:
            refusals.append(Refusal(ask.record, "too_large", str(error)))
            continue
        except ValueError as error:
            refusals.append(Refusal(ask.record, "invalid", str(error)))
            continue
        if change.refused is not None:
            refusals.append(Refusal(ask.record, *change.refused))
        refusals += [
            Refusal(_waited(parked, ask.record.topic), reason, detail)
            for parked, reason, detail in change.parked
        ]
        inputs = change.inputs or inputs
        made = replace(
            change,
            postings=made.postings + change.postings,
            inputs=change.inputs or made.inputs,
            again=made.again + change.again,
        )
    return made, refusals


def _write(page: Page, held: Held, change: Change) -> Write | None:
    if not change.postings and text_of(change.standing).encode() == held.text:
        return None
    return Write(page.brand, change, held.text, page.utc_offset_h)


def _waited(parked: Parked, topic: str) -> _Waited:
    place = (parked.partition, parked.offset, parked.member_id.encode(), parked.value.encode())
    return _Waited(topic, *place, parked.timestamp)


def _beyond(ask: Ask, change: Change, result: str, where: Sequence[bytes]) -> Refusal:
    place, name = (each.decode() for each in where)
    reason, what = _REFUSES[result]
    return Refusal(ask.record, reason, f"{change.order_id}: {name} of {place.rpartition(':')[2]} {what}")


def _refused(record: Record, what: str) -> Refusal:
    return Refusal(record, "command_refused", what)

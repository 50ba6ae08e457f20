"""What every step of the ledger goes through: decide and post, until nobody else has posted meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import orjson

from router.errors import EffectError, OutageError
from router.ledger.gathering import Gathering
from router.outbox import Outbox
from router.publish import Publisher
from router.reference import Reference
from router.rules.intake import Record, Refusal, RefusalReason, Taken
from router.rules.money.entries import Change
from router.rules.money.lines import Inputs
from router.rules.money.postings import Page, TooLargeError
from router.rules.money.standing import Parked, Refund, Standing, read, text_of
from router.state.money import Held, Money, Whose, Write
from topics.orders import Order

#: How often it is decided anew because somebody else has posted for the same order meanwhile.
TRIES_MAX = 8
#: How the bytes of a posting begin.
_BEGINS = re.compile(rb'\{"book_seq":(\d+),"posting_id":"([^"]+)"')

#: What the script refuses of a balance: the reason, and how it is told.
_REFUSES: dict[str, tuple[RefusalReason, str]] = {
    "beyond": ("command_refused", "would fall below 0, or rise above it"),
    "over": ("too_large", "would be more than can be counted"),
}

Decide = Callable[[Page, Standing, Inputs, Inputs | None], Change]
"""From the open page, how the order stands, what it was sold under, and what was gathered for a sale now."""


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
class Done:
    """What became of some asks."""

    refusals: list[Refusal] = field(default_factory=list)
    values: list[tuple[str, bytes]] = field(default_factory=list)
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Carrier:
    """The parts that a step touches."""

    reference: Reference
    money: Money
    gathering: Gathering
    publisher: Publisher
    outbox: Outbox

    async def carry(self, asks: Sequence[Ask]) -> Done:
        """Decide and post, again for those whose order somebody else has changed meanwhile."""
        done, left = Done(), list(asks)
        for _ in range(TRIES_MAX):
            if not left:
                return done
            left = await self._try(left, done)
        if left:
            raise OutageError("orders are being posted by somebody else all the time")
        return done

    async def _try(self, asks: Sequence[Ask], done: Done) -> list[Ask]:
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
        waited: list[Refusal] = []
        for whose, those in orders.items():
            change, refusals = _fold(pages[whose[0]], held[whose], those, gathered.get(whose), waited)
            write = _write(pages[whose[0]], held[whose], change)
            made.append((those, change, refusals, write))
        if waited:
            # once they wait no more nobody knows of them: whoever dies after the posting could not tell
            await self.publisher.publish(self.outbox.dead_letters(waited))
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

    async def publish(self, values: Sequence[tuple[str, bytes]]) -> None:
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


def _fold(
    page: Page, held: Held, asks: Sequence[Ask], gathered: Inputs | None, waited: list[Refusal]
) -> tuple[Change, list[Refusal]]:
    """What follows from the records about one order, one on top of the other.

    ``waited`` takes what is refused of records that were acknowledged before.
    """
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
        waited += [
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


def _waited(parked: Parked, topic: str) -> Taken:
    place = (parked.partition, parked.offset, parked.member_id.encode(), parked.value.encode())
    return Taken(topic, *place, parked.timestamp)


def _beyond(ask: Ask, change: Change, result: str, where: Sequence[bytes]) -> Refusal:
    place, name = (each.decode() for each in where)
    reason, what = _REFUSES[result]
    return Refusal(ask.record, reason, f"{change.order_id}: {name} of {place.rpartition(':')[2]} {what}")


def parked_of(order: Order, record: Record) -> Parked:
    """A refund that waits for its order, with the record that it came in."""
    value, place = (record.value or b"").decode(), (record.partition, record.offset, record.timestamp)
    return Parked(refund_of(order), order.occurred_at_ms, order.member_id, value, *place)


def refund_of(order: Order) -> Refund:
    """What an order that was refunded gives back."""
    return Refund(order.refund_id or "", order.commission_fen, order.amount_fen)

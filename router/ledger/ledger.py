"""The story of money: a batch of ``orders`` or of ``ledger-commands`` becomes postings.

How the orders of a batch stand is read in one round trip; what follows is decided
(``router.rules.money.entries``); the script posts it, each order only if it still stands as it was read; the
broker gets the postings; only then does the caller acknowledge. Whoever comes back after a crash finds the
bytes that were posted, and publishes those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import TypeVar
from uuid import uuid4

from router.errors import OutageError
from router.ledger.carrying import Ask, Carrier, parked_of, refund_of
from router.ledger.commands import Commands
from router.rules.intake import Record, Refusal, decoded
from router.rules.money.entries import Change, give_back, park, sell
from router.rules.money.lines import Inputs
from router.rules.money.postings import Page
from router.rules.money.standing import Standing, sale_of
from topics.commissions import LedgerCommand
from topics.orders import Order

E = TypeVar("E", LedgerCommand, Order)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the two topics of money go through; ``opened``: brands whose book is known to be whole."""

    carrier: Carrier
    opened: set[str] = field(default_factory=set)

    async def open(self) -> None:
        """Open the books of brands that are new: there is nothing in the log that they could lack."""
        if brands := [brand for brand in self.carrier.reference.roster.brands if brand not in self.opened]:
            await self.carrier.money.mark(brands, await self.carrier.money.begin(brands, uuid4().hex))
            self.opened.update(brands)

    async def orders(self, records: Sequence[Record]) -> list[Refusal]:
        """Post a batch of sales and refunds; what is bad or does not fit comes back refused.

        When this returns the broker has every posting.
        """
        events, refusals = self._of_known_brands(*decoded(Order, records))
        done = await self.carrier.carry([_asked(order, record) for order, record in events])
        await self.carrier.publish(done.values)
        return refusals + done.refusals

    async def commands(self, records: Sequence[Record]) -> list[Refusal]:
        """Carry out a batch of commands, in their order; what is refused comes back."""
        commands = Commands(self.carrier)
        events, refusals = self._of_known_brands(*decoded(LedgerCommand, records))
        for brand in dict.fromkeys(command.brand for command, _ in events):
            # whoever died between posting and publishing: their record may not come again
            left = await self.carrier.money.unpublished(brand)
            await self.carrier.publish([(brand, value) for value in left])
        for kind, those in groupby(events, key=lambda each: each[0].kind):
            if kind == "vest":
                refusals += await commands.vest(list(those))
                continue
            for command, record in those:
                refusals += await commands.carry_out(command, record)
        return refusals

    def _of_known_brands(
        self, events: list[tuple[E, Record]], refusals: list[Refusal]
    ) -> tuple[list[tuple[E, Record]], list[Refusal]]:
        """Set aside what is of a brand that has no store: nobody opens its book."""
        known: list[tuple[E, Record]] = []
        for event, record in events:
            if event.brand in self.opened:
                known.append((event, record))
            elif event.brand in self.carrier.reference.roster.brands:
                raise OutageError(f"{event.brand}: its book is not open yet")
            else:
                refusals.append(Refusal(record, "unknown", f"brand: no store of {event.brand} is known"))
        return known, refusals


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
    return give_back(page, standing, inputs, refund_of(order), order.occurred_at_ms, order.member_id)

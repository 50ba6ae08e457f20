"""The book of record entered into Redis again: what was posted, disputed and parked, as the log has it.

What Redis knows is left alone, so several workers may do it at once, and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from router.errors import OutageError
from router.ledger.carrying import TRIES_MAX, Ask, Carrier, parked_of
from router.ledger.commands import Commands
from router.rules.intake import Record, decoded
from router.rules.money.entries import Change, park
from router.rules.money.lines import Inputs
from router.rules.money.postings import Draft, Page, Seal
from router.rules.money.standing import Standing, after, read
from router.state.money import Write
from topics.codec import BadEventError, decode
from topics.commissions import LedgerCommand, Posting
from topics.orders import Order

#: Postings that are entered in one go.
CHUNK = 200


@dataclass(slots=True)
class BookRecovery:
    """``carrier`` goes without the guard; ``lost``: the brands whose book is empty.

    Other brands lack no more than the newest, since ``since_ms``, epoch ms.
    """

    carrier: Carrier
    lost: set[str]
    since_ms: int

    async def postings(self, records: Sequence[Record]) -> int:
        """Enter records of ``commissions``; how many were unknown."""
        events: list[tuple[Posting, bytes]] = []
        for record in records:
            try:
                posting = decode(Posting, record.value)
            except BadEventError:
                continue  # named by whoever audits the book
            if posting.brand in self.lost or record.timestamp >= self.since_ms:
                events.append((posting, record.value or b""))
        entered = 0
        for at in range(0, len(events), CHUNK):
            entered += await self._enter(events[at : at + CHUNK])
        return entered

    async def _enter(self, events: Sequence[tuple[Posting, bytes]]) -> int:
        money, entered = self.carrier.money, 0
        # of what stands twice in the log the first counts
        first = {(posting.brand, posting.posting_id): (posting, value) for posting, value in reversed(events)}
        left = list(first.values())[::-1]
        for _ in range(TRIES_MAX):
            held = await money.stored([(posting.brand, posting.posting_id) for posting, _ in left])
            left = [event for event, known in zip(left, held, strict=True) if known is None]
            if not left:
                return entered
            writes = await self._writes(left)
            entered += sum(result == "ok" for result, _ in await money.restore(writes))
        raise OutageError("the book is being restored by somebody else all the time")

    async def _writes(self, events: Sequence[tuple[Posting, bytes]]) -> list[Write]:
        """One write for each order with all of its postings, one for each close."""
        orders: dict[tuple[str, str], list[tuple[Posting, bytes]]] = {}
        for posting, value in events:
            name = posting.order_id or posting.posting_id  # a close is about no order
            orders.setdefault((posting.brand, name), []).append((posting, value))
        looks = await self.carrier.money.look(list(orders))
        writes = []
        for ((brand, name), those), look in zip(orders.items(), looks, strict=True):
            postings = [posting for posting, _ in those]
            closes = postings[0].kind == "close"
            standing, inputs = read(look.text), None
            for posting in postings if not closes else ():
                standing = after(standing, posting)
                inputs = posting.inputs if posting.kind in {"base", "adjust"} else inputs
            # what is reversed by now waits no more
            known = {refund.refund_id for refund in standing.refunds}
            waits = tuple(each for each in standing.parked if each.refund.refund_id not in known)
            standing = msgspec.structs.replace(standing, parked=waits)
            change = Change(name, standing, tuple(Draft(posting, b"") for posting in postings), inputs)
            writes.append(
                Write(
                    brand,
                    change,
                    look.text,
                    self.carrier.offset_h(brand),
                    _seal(postings[0]) if closes else None,
                    tuple(posting.book_seq for posting in postings),
                    tuple(value for _, value in those),
                )
            )
        return writes

    async def disputes(self, records: Sequence[Record]) -> int:
        """Freeze and release as ``ledger-commands`` tell, in their order."""
        told = [
            (command, record)
            for command, record in decoded(LedgerCommand, records)[0]
            if command.kind in {"dispute", "release"}
        ]
        for command, record in told:
            await Commands(self.carrier).dispute(command, record)
        return len(told)

    async def refunds(self, records: Sequence[Record]) -> int:
        """Park the refunds of ``orders`` whose order is not in the book."""
        asks = [
            Ask(order.brand, order.order_id, record, partial(_parked, order, record))
            for order, record in decoded(Order, records)[0]
            if order.status == "refunded"
        ]
        return (await self.carrier.carry(asks)).changed


def _seal(posting: Posting) -> Seal:
    return Seal(**{name: posting.inputs[name] for name in Seal.__struct_fields__})


def _parked(
    order: Order, record: Record, _: Page, standing: Standing, __: Inputs, ___: Inputs | None
) -> Change:
    """A refund waits if its order is not in the book; what else became of it the book tells."""
    if standing.digest:
        return Change(order.order_id, standing)
    return park(order.order_id, standing, parked_of(order, record))

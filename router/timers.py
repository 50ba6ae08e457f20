"""What is due becomes a ``responses`` record, with an id that hangs on what is due; nothing is done here.

A tick looks after the cells whose share of the responses this worker holds. Two workers that look after the
same cell for a moment publish the same ids, and the second of each changes nothing.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from router.flow import Flow
from router.outbox import Outbox
from router.publish import Publisher
from router.reference import Reference
from router.rules.offers import Made, made
from router.state import keys
from router.state.arbiter import Arbiter, Lead, Past
from router.windows import Windows
from topics.catalog import LEDGER_COMMANDS, RESPONSES
from topics.codec import decode
from topics.commissions import LedgerCommand
from topics.fields import RequestKind
from topics.responses import ROUTERS_OWN, Response, RouterAction

#: How many due times of a cell, and waiting leads of a queue and tier, one tick looks at.
DUE_MAX = 512
WAITERS_MAX = 32
#: A drain that was published is not published again for so long, unless its lead has changed meanwhile.
AGAIN_MS = 3_000
#: How often waiting leads are looked at though nothing that is known of has changed.
LOOK_MS = 5_000
#: A look at who waits is followed by a rest so many times as long: it takes a fifth of the time at most.
LOOK_REST = 4
#: Until a guide has answered, an offer may be reminded of.
_UNANSWERED = ("offered", "delivered", "seen")


@dataclass(slots=True)
class Timers:
    """Looks after what is due; ``mine(names)`` tells which cells or brands are this worker's business.

    ``rest``: how many times as long as a look at those who wait the rest after it is, ``LOOK_MS`` at most.
    """

    arbiter: Arbiter
    reference: Reference
    flow: Flow
    publisher: Publisher
    outbox: Outbox
    mine: Callable[[Collection[str]], list[str]]
    rest: int = 0
    windows: Windows = field(init=False)
    #: The arrival of who waits longest in each brand and named queue, epoch ms.
    oldest_ms: dict[tuple[str, str], int] = field(default_factory=dict)
    _rests_until_ms: int = 0
    _published: dict[str, int] = field(default_factory=dict)
    _seen: dict[str, tuple[int, int, tuple[str, ...]]] = field(default_factory=dict)
    #: Behind how many a cell is looked at as well, since nobody was there for those before.
    _skipped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look after the windows of the same brands."""
        self.windows = Windows(self.arbiter.members, self.reference, self.outbox, self._brands)

    def _brands(self) -> list[str]:
        return self.mine(self.reference.roster.brands)

    async def tick(self) -> None:
        """Publish everything that is due by now."""
        cells = self.mine(self.reference.cells)
        now_ms = await self.arbiter.now_ms()
        self._published = {name: until for name, until in self._published.items() if until > now_ms}
        await self._due(cells, self._brands(), now_ms)
        await self._leavers(cells, now_ms)
        await self._waiting(cells, now_ms)
        await self.publisher.publish(await self.windows.due(now_ms))
        await self.windows.done()

    async def _due(self, cells: Sequence[str], brands: Sequence[str], now_ms: int) -> None:
        """All that is due by now, asked for in one round trip; forgotten once the broker has it."""
        asked = [
            *((keys.due(cell), cell, self._deadlines) for cell in cells),
            *((keys.parked(brand), brand, self._parked) for brand in brands),
            *((keys.vesting(brand), brand, self._vesting) for brand in brands),
        ]
        dues = await self.arbiter.due([name for name, *_ in asked], now_ms, DUE_MAX)
        for (name, whose, publish), due in zip(asked, dues, strict=True):
            if due:
                await publish(whose, due, now_ms)
                await self.arbiter.forget_due(name, due)

    async def _deadlines(self, cell: str, due: Sequence[tuple[bytes, int]], now_ms: int) -> None:
        """States that end now: a reminder first, then the end."""
        leads = [_lead(cell, member.decode()) for member, _ in due]
        pasts, _ = await self.arbiter.recall(leads)
        await self._publish(
            [
                self._response(lead, past, _deadline(newest, now_ms), now_ms)
                for lead, past in zip(leads, pasts, strict=True)
                if (newest := _newest(past)) is not None
            ]
        )

    async def _parked(self, _: str, due: Sequence[tuple[bytes, int]], __: int) -> None:
        """Responses that came before their lead: read again."""
        await self._publish([decode(Response, member) for member, _ in due])

    async def _vesting(self, brand: str, due: Sequence[tuple[bytes, int]], now_ms: int) -> None:
        """Orders whose rights window is over, and those that refunds have waited for in vain."""
        commands = [_vest(brand, order.decode(), at_ms, now_ms) for order, at_ms in due]
        await self.publisher.publish(
            [self.outbox.record(LEDGER_COMMANDS, brand.encode(), command) for command in commands]
        )

    async def _leavers(self, cells: Sequence[str], now_ms: int) -> None:
        """Leads of guides who are gone, or whose store is closed: given to somebody else."""
        for cell, guide_ids in self.reference.traffic.gone_with_leads(cells).items():
            held = await self.arbiter.held(cell, guide_ids)
            leads: list[Lead] = [
                (cell.partition("/")[0], member_id, kind, lead_id)
                for those in held
                for kind, lead_id, member_id in those
            ]
            await self._act(leads, "returned", now_ms)

    async def _waiting(self, cells: Sequence[str], now_ms: int) -> None:
        """Waiting leads for whom there is somebody now, the oldest of the highest tier first."""
        if now_ms < self._rests_until_ms:
            return
        skips = [self._skipped.get(cell, 0) for cell in cells]
        queues = await self.arbiter.waiters(cells, skips, WAITERS_MAX)
        self.oldest_ms = _oldest(cells, queues)
        looked: list[tuple[str, str]] = []
        for cell, waiters in zip(cells, queues, strict=True):
            seen = (self.reference.changes(cell), now_ms // LOOK_MS, tuple(waiters))
            if waiters and self._seen.get(cell) != seen:
                self._seen[cell] = seen
                looked += [(cell, waiter) for waiter in waiters]
        if looked:
            leads = [_lead(cell, waiter.split("|", 4)[4]) for cell, waiter in looked]
            pasts, _ = await self.arbiter.recall(leads)
            for (cell, waiter), past in zip(looked, pasts, strict=True):
                if past.cell not in {None, cell}:
                    await self.arbiter.forget_waiting(cell, waiter, len(past.steps))
            # as long as everybody is busy there is nobody to look for
            free = self.reference.traffic.with_room()
            waiting = {
                (drain := self._response(lead, past, "drain", now_ms)).response_id: (drain, past, place)
                for lead, past, place in zip(leads, pasts, looked, strict=True)
                if past.cell == place[0]
                and past.cell in free
                and (newest := _newest(past)) is not None
                and newest.state == "waiting"
            }
            # those who are on their way have a place each, which is not found for anybody else
            found = await self.flow.placeable([each[:2] for each in waiting.values()], now_ms)
            self._look_on(looked, [waiting[each.response_id][2] for each in found])
            await self._publish([each for each in found if each.response_id not in self._published], now_ms)
            lasted_ms = await self.arbiter.now_ms() - now_ms if self.rest else 0
            self._rests_until_ms = now_ms + min(self.rest * lasted_ms, LOOK_MS)

    def _look_on(self, looked: Sequence[tuple[str, str]], served: Sequence[tuple[str, str]]) -> None:
        """Look further back next time where a look found nobody; from the end to the front again."""
        happy = {_group(*place) for place in served}
        counts = Counter(_group(*place) for place in looked)
        for cell in {cell for cell, _ in looked}:
            skip = self._skipped.pop(cell, 0)
            whole = WAITERS_MAX * (2 if skip else 1)
            if any(each[0] == cell and n >= whole and each not in happy for each, n in counts.items()):
                self._skipped[cell] = skip + WAITERS_MAX

    async def _act(self, leads: Sequence[Lead], action: RouterAction, now_ms: int) -> None:
        pasts, _ = await self.arbiter.recall(leads)
        responses = [
            self._response(lead, past, action, now_ms)
            for lead, past in zip(leads, pasts, strict=True)
            if past.steps
        ]
        fresh = [each for each in responses if each.response_id not in self._published]
        await self._publish(fresh, now_ms)

    def _response(self, lead: Lead, past: Past, action: RouterAction, now_ms: int) -> Response:
        brand, member_id, kind, lead_id = lead
        seq = len(past.steps)
        name = f"{brand}/{kind}/{lead_id}/{seq}/{action}"
        kinds: dict[str, RequestKind] = {"lead": "lead", "reservation": "reservation", "list": "list"}
        newest = _newest(past)
        return Response(
            response_id=f"{ROUTERS_OWN}{blake2b(name.encode(), digest_size=12).hexdigest()}",
            lead_id=lead_id,
            member_id=member_id,
            brand=brand,
            occurred_at_ms=now_ms,
            action=action,
            kind=kinds[kind],
            attempt=newest.attempt if newest is not None else None,
        )

    async def _publish(self, responses: Sequence[Response], now_ms: int | None = None) -> None:
        await self.publisher.publish(
            [self.outbox.record(RESPONSES, each.member_id.encode(), each) for each in responses]
        )
        if now_ms is not None:
            self._published |= {each.response_id: now_ms + AGAIN_MS for each in responses}


def _vest(brand: str, order_id: str, due_ms: int, now_ms: int) -> LedgerCommand:
    name = blake2b(f"{brand}/{order_id}/{due_ms}".encode(), digest_size=12).hexdigest()
    return LedgerCommand(
        command_id=f"{ROUTERS_OWN}{name}",
        brand=brand,
        kind="vest",
        actor="router",
        occurred_at_ms=now_ms,
        order_id=order_id,
    )


def share_of(name: str, partitions: int) -> int:
    """The partition of the responses whose holder looks after a cell or brand."""
    return zlib.crc32(name.encode()) % partitions


def _oldest(cells: Sequence[str], queues: Sequence[Sequence[str]]) -> dict[tuple[str, str], int]:
    """The earliest arrival in each brand and queue, its needs left out: they are from outside."""
    out: dict[tuple[str, str], int] = {}
    for cell, waiters in zip(cells, queues, strict=True):
        for waiter in waiters:
            queue, _, arrival_ms, _ = waiter.split("|", 3)
            place = (cell.partition("/")[0], queue.partition("/needs/")[0])
            out[place] = min(out.get(place, int(arrival_ms)), int(arrival_ms))
    return out


def _group(cell: str, waiter: str) -> tuple[str, str]:
    """The cell, and the queue and tier, in which somebody waits."""
    return cell, waiter.rsplit("|", 5)[0]


def _lead(cell: str, whom: str) -> Lead:
    kind, lead_id, member_id = whom.split("|")
    return (cell.partition("/")[0], member_id, kind, lead_id)


def _newest(past: Past) -> Made | None:
    return made(past.steps[-1]) if past.steps and past.steps[-1] else None


def _deadline(newest: Made, now_ms: int) -> RouterAction:
    early = newest.state in _UNANSWERED and now_ms < newest.respond_by_ms
    return "closing" if early else "expired"

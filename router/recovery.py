"""After Redis may have lost what it was told: the log is applied to it again, then claims go on.

Every worker that notices does this by itself. What is applied changes nothing where it is known already, so
several at once do no harm, and who comes later finds the server vouched for.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from uuid import uuid4

from router.ledger.carrying import Carrier
from router.ledger.recovery import BookRecovery
from router.projector import Projector
from router.reference import Reference
from router.rules.intake import Record
from router.state.arbiter import Arbiter
from router.state.guard import Guard
from router.tracking import Tracking
from topics.catalog import (
    ASSIGNMENTS,
    BINDINGS,
    COMMISSIONS,
    LEDGER_COMMANDS,
    ORDERS,
    TOUCHES,
    Topic,
)

log = logging.getLogger(__name__)

#: How much of the log is applied again after a failover or a restart: far more than such a server may lose.
FAILOVER_WINDOW_MS = 600_000
Read = Callable[[Topic, int | None], AsyncIterator[Sequence[Record]]]
"""The records of a topic, from a time on (epoch ms, None: from the first) to its present end."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """``arbiter`` and ``books`` go without the guard; ``lost`` is told when a server stands for another."""

    arbiter: Arbiter
    guard: Guard
    reference: Reference
    read: Read
    log_name: str
    lost: Callable[[], None]
    books: Carrier | None = None
    window_ms: int = FAILOVER_WINDOW_MS

    async def run(self) -> None:
        """Make Redis whole, if it is not, and vouch for it; nobody vouches when state was lost meanwhile.

        Raises:
            OutageError: a part does not answer; run it again, as while the guard still finds Redis not whole.

        """
        self.reference.refresh(await self.arbiter.now_ms())  # stores and cells as they are now
        identities = await self.arbiter.scripts.identities()
        known = await self.arbiter.known_identities(self.log_name)
        unmarked = await self.arbiter.unmarked(self.reference.cells)
        if self.books is not None:
            unmarked += await self.books.money.unmarked(list(self.reference.roster.brands))
        if unmarked or not identities <= known.keys():
            lost = bool(known) or self.guard.has_trusted
            log.log(logging.WARNING if lost else logging.INFO, "Redis gets what the log says")
            applied = await self._apply(everything=bool(unmarked) or not known)
            if applied is None:
                return
            # a new log beside a new Redis has nothing on its way
            known = dict.fromkeys(identities, await self.arbiter.now_ms() if lost or applied else 0)
            await self.arbiter.note_identities(self.log_name, known)
            if lost:
                self.lost()
        # what this worker has told the lost server, another one may not have known
        self.reference.untell()
        if await self.arbiter.scripts.identities() == identities:
            self.guard.trust(identities, max(known[identity] for identity in identities))

    async def _apply(self, *, everything: bool) -> int | None:
        """Apply the log, tell the capacities, mark the cells.

        Returns how many records there were, None when state was lost meanwhile.
        """
        now_ms = await self.arbiter.now_ms()
        # once, at first: what is not begun here is not whole, and whoever calls takes all cells for whole
        self.reference.untell()
        rows = self.reference.refresh(now_ms)
        cells = self.reference.cells
        tokens = await self.arbiter.begin(cells, uuid4().hex)
        since_ms = None if everything else now_ms - self.window_ms
        projector = Projector(self.arbiter, lambda: self.reference.roster, lambda: _FOREVER_MS)
        applied = 0
        tracking = Tracking(self.arbiter.members)
        async for records in self.read(BINDINGS, since_ms):
            await tracking.bind(records)
            applied += len(records)
        async for records in self.read(TOUCHES, since_ms):
            await tracking.touch(records)
            applied += len(records)
        async for records in self.read(ASSIGNMENTS, since_ms):
            await projector.project(records, overrule=everything)
            applied += len(records)
        await self.arbiter.set_capacities(rows)
        self.reference.told(rows)
        books = await self._apply_books(now_ms)
        if books is None or not await self.arbiter.mark(cells, tokens):
            return None
        return applied + books

    async def _apply_books(self, now_ms: int) -> int | None:
        """Enter the books of all brands; how many records, None when state was lost meanwhile."""
        if self.books is None:
            return 0
        money, brands = self.books.money, list(self.reference.roster.brands)
        tokens = await money.begin(brands, uuid4().hex)
        lost = set(await money.unmarked(brands))
        recovery = BookRecovery(self.books, lost, now_ms - self.window_ms)
        applied = 0
        for topic, enter in (
            (COMMISSIONS, recovery.postings),
            (LEDGER_COMMANDS, recovery.disputes),
            (ORDERS, recovery.refunds),
        ):
            async for records in self.read(topic, None if lost else now_ms - self.window_ms):
                applied += await enter(records)
        return applied if await money.mark(brands, tokens) else None


_FOREVER_MS = 2**63

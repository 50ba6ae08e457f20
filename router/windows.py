"""The windows to answer members: before one closes, who is responsible is reminded by a lead of their own.

A source of due times as ``router.timers`` asks it: ``due`` gives records, and once the broker has them
``done`` lets their windows go. What is given twice has the same id, so that it is one lead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from router.outbox import Outbox
from router.publish import Outgoing
from router.reference import Reference
from router.rules.ownership import DAY_MS
from router.rules.touches import HOUR_MS, closes_ms, for_store, reminder
from router.state.members import Members
from topics.catalog import LEADS
from topics.leads import Lead

#: Windows of a brand that are looked at in one go.
MOST = 500


@dataclass(frozen=True, slots=True)
class Windows:
    """``brands()`` are those this worker is in charge of."""

    members: Members
    reference: Reference
    outbox: Outbox
    brands: Callable[[], Iterable[str]]
    _seen_to: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    async def due(self, now_ms: int) -> list[Outgoing]:
        """The reminders that are due, those of the longest silent members first.

        A reminder that a cap forbids, or that nobody is there to get, is dropped: later is too late.
        """
        leads: list[Lead] = []
        self._seen_to.clear()
        for brand in self.brands():
            leads += await self._due(brand, now_ms)
        return [self.outbox.record(LEADS, lead.member_id.encode(), lead) for lead in leads]

    async def done(self) -> None:
        """The broker has what ``due`` gave last."""
        for brand, seen_to in self._seen_to.items():
            await self.members.close_windows(brand, seen_to)
        self._seen_to.clear()

    async def _due(self, brand: str, now_ms: int) -> list[Lead]:
        policy = self.reference.policy(brand)
        earliest_ms = now_ms - (policy.window_h - min(policy.window_remind_h, policy.window_h)) * HOUR_MS
        held = await self.members.waiting_windows(brand, earliest_ms, MOST)
        due = [(window, reminder(brand, *window, policy)) for window in held]
        due = [(window, lead) for window, lead in due if lead.occurred_at_ms <= now_ms]
        self._seen_to[brand] = [window for window, _ in due]
        leads = [lead for (_, at_ms), lead in due if now_ms < closes_ms(at_ms, policy)]
        return await self._allowed(brand, leads, now_ms)

    async def _allowed(self, brand: str, leads: list[Lead], now_ms: int) -> list[Lead]:
        """The leads whose member may be contacted, and whose guide, or store, may be reminded."""
        policy = self.reference.policy(brand)
        members = [(brand, lead.member_id) for lead in leads]
        standings, _ = await self.members.standings(members)
        contacts = await self.members.contacts(members, now_ms - DAY_MS)
        charges = self.reference.in_charge([brand] * len(leads), standings, now_ms)
        asked = [
            (lead, charge.guide_id)
            if charge.guide_id
            else (for_store(lead, charge.store_id), charge.store_id)
            for lead, count, charge in zip(leads, contacts, charges, strict=True)
            if (charge.guide_id or charge.store_id)
            and count < self.reference.contact_cap(brand, lead.member_id)
        ]
        through = await self.members.let_through(
            [
                (brand, name if lead.only_owner else f"/{name}", lead.lead_id, policy.reminder_cap_per_day)
                for lead, name in asked
            ],
            now_ms,
        )
        return [lead for (lead, _), one in zip(asked, through, strict=True) if one]

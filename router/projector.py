"""Inboxes and journeys from the log: reads ``assignments`` in order; the first record of a seq wins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router.rules.intake import Record, Refusal
from router.rules.money.deeds import of_assignment
from router.rules.restoring import restored
from router.state.arbiter import Arbiter, Card
from scoring.roster import Roster
from topics.assignments import FINAL_STATES, LIVE_STATES, Assignment
from topics.codec import BadEventError, decode


@dataclass(frozen=True, slots=True)
class Projector:
    """Writes what people read; and where Redis has decided otherwise than the log, the log is right.

    ``roster()`` tells the cells of stores; records that the broker got before ``restore_until_ms()`` are
    restored one and all.
    """

    arbiter: Arbiter
    roster: Callable[[], Roster]
    restore_until_ms: Callable[[], int]

    async def project(self, records: Sequence[Record], *, overrule: bool = False) -> list[Refusal]:
        """Project a batch; what is no assignment record comes back refused.

        ``overrule``: the cells in Redis may be younger than the loss of all that was there.
        """
        events: list[tuple[Assignment, Record]] = []
        refusals: list[Refusal] = []
        for record in records:
            try:
                events.append((decode(Assignment, record.value), record))
            except BadEventError as error:
                refusals.append(Refusal(record, error.reason, error.detail))
        kept = await self.arbiter.keep_journeys(
            [(*_identity(event), event.seq, record.offset, record.value or b"") for event, record in events]
        )
        # the record that is kept is projected, not the one that came: a repeat mends, a loser does nothing
        first = [
            event if value == record.value else decode(Assignment, value)
            for (_, value), (event, record) in zip(kept, events, strict=True)
        ]
        await self.arbiter.deliver_cards(
            [
                _card(event, event.guide_id, offset, value)
                for event, (offset, value) in zip(first, kept, strict=True)
                if event.guide_id is not None
            ]
        )
        await self.arbiter.members.note_deeds([deed for event in first for deed in of_assignment(event)])
        closed = [event for event in first if event.state in FINAL_STATES]
        await self.arbiter.part([_identity(event) for event in closed])
        until_ms, roster = self.restore_until_ms(), self.roster()
        await self.arbiter.restore(
            [
                restored(event, roster)
                for event, (_, value), (_, record) in zip(first, kept, events, strict=True)
                if value != record.value or record.timestamp < until_ms
            ],
            overrule=overrule,
        )
        return refusals


def _identity(event: Assignment) -> tuple[str, str, str, str]:
    return (event.brand, event.member_id, event.kind, event.lead_id)


def _card(event: Assignment, guide_id: str, offset: int, record: bytes) -> Card:
    lead = f"{event.kind}|{event.lead_id}"
    return Card(event.brand, guide_id, lead, event.seq, offset, record, event.state in LIVE_STATES)

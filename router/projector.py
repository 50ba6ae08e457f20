"""Inboxes and journeys from the log: reads ``assignments`` in order; the first record of a seq wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from router.rules.intake import Record, Refusal
from router.state.arbiter import Arbiter, Card
from topics.assignments import LIVE_STATES, Assignment
from topics.codec import BadEventError, decode


@dataclass(frozen=True, slots=True)
class Projector:
    """Writes what people read."""

    arbiter: Arbiter

    async def project(self, records: Sequence[Record]) -> list[Refusal]:
        """Project a batch; what is no assignment record comes back refused."""
        events: list[tuple[Assignment, bytes]] = []
        refusals: list[Refusal] = []
        for record in records:
            try:
                events.append((decode(Assignment, record.value), record.value or b""))
            except BadEventError as error:
                refusals.append(Refusal(record, error.reason, error.detail))
        kept = await self.arbiter.keep_journeys(
            [
                (event.brand, event.member_id, event.kind, event.lead_id, event.seq, value)
                for event, value in events
            ]
        )
        # the record that was kept is projected, not the one that came: a repeat mends, a loser does nothing
        cards = (
            event if value == came else decode(Assignment, value)
            for value, (event, came) in zip(kept, events, strict=True)
        )
        await self.arbiter.deliver_cards(
            [
                Card(
                    event.brand,
                    event.guide_id,
                    f"{event.kind}|{event.lead_id}",
                    event.seq,
                    value,
                    event.state in LIVE_STATES,
                )
                for event, value in zip(cards, kept, strict=True)
                if event.guide_id is not None
            ]
        )
        return refusals

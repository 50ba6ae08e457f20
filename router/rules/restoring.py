"""From an assignments record back to what the claim script had stored: Redis is made what the log says."""

from __future__ import annotations

from dataclasses import dataclass

from router.rules.offers import NO_DIGEST, cell_of_queue, stored_answer
from scoring.layout import cell_name
from scoring.roster import Roster
from topics.assignments import LIVE_STATES, Assignment
from topics.fields import RequestKind


@dataclass(frozen=True, slots=True)
class Restored:
    """One lead as the log has it; ``guide_id`` is '' unless a guide holds it, ``turn`` "guide start end".."""

    brand: str
    kind: RequestKind
    lead_id: str
    cell: str
    state: str
    seq: int
    attempt: int
    answer: str
    digest: str
    guide_id: str
    arrival_ms: int
    turn: str


def restored(made: Assignment, roster: Roster) -> Restored:
    """What Redis should hold of a lead whose newest record this is."""
    return Restored(
        made.brand,
        made.kind,
        made.lead_id,
        cell_of(made, roster),
        made.state,
        made.seq,
        made.attempt,
        stored_answer(made),
        made.digest or NO_DIGEST,
        (made.guide_id or "") if made.state in LIVE_STATES else "",
        made.lead_at_ms or 0,
        "" if made.turn is None else f"{made.guide_id} {made.turn.start} {made.turn.end}",
    )


def cell_of(made: Assignment, roster: Roster) -> str:
    """The cell in which a record was decided: its queue's, or its store's as the roster has it now."""
    if made.store_id is None:
        return cell_of_queue(made.brand, made.queue or "")
    row = roster.store_row(made.brand, made.store_id)
    return roster.cell_of(row) if row >= 0 else cell_name(made.brand, None)

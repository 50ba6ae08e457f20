"""From an assignments record back to what the claim script had stored: Redis is made what the log says."""

from __future__ import annotations

from dataclasses import dataclass

from router.rules.offers import NO_DIGEST, cell_of_queue, ends_ms, record_text, stored_answer
from scoring.layout import cell_name
from scoring.roster import Roster
from topics.assignments import FINAL_STATES, LIVE_STATES, Assignment
from topics.fields import RequestKind


@dataclass(frozen=True, slots=True)
class Restored:
    """One step of a lead as the log has it; '' where there is none.

    ``guide_id`` holds the lead after this step, ``turn`` is "guide start end", ``record`` "guide record",
    ``slots`` those that it holds from then on, ``-`` for none, '' for those that it has. ``moved``: to this
    cell by this step.
    """

    brand: str
    kind: RequestKind
    lead_id: str
    member_id: str
    cell: str
    seq: int
    attempt: int
    answer: str
    digest: str
    guide_id: str
    ends_ms: str
    turn: str
    record: str
    slots: str
    moved: bool


def restored(made: Assignment, roster: Roster) -> Restored:
    """What Redis should hold of a lead after this record."""
    ends = ends_ms(made)
    return Restored(
        brand=made.brand,
        kind=made.kind,
        lead_id=made.lead_id,
        member_id=made.member_id,
        cell=cell_of(made, roster),
        seq=made.seq,
        attempt=made.attempt,
        answer=stored_answer(made),
        digest=made.digest or (NO_DIGEST if made.seq == 1 else ""),
        guide_id=(made.guide_id or "") if made.state in LIVE_STATES else "",
        ends_ms="" if ends is None else str(ends),
        turn="" if made.turn is None else f"{made.guide_id} {made.turn.start} {made.turn.end}",
        slots=_slots(made),
        moved=made.cell is not None,
        record="" if made.record is None else f"{made.guide_id} {record_text(made.record)}",
    )


def _slots(made: Assignment) -> str:
    if made.state in FINAL_STATES:
        return "-"
    asked_anew = made.reservation is not None
    return " ".join(made.slots) or "-" if asked_anew else ""


def cell_of(made: Assignment, roster: Roster) -> str:
    """The cell in which a record was decided: its queue's, or its store's as the roster has it now."""
    if made.cell is not None:
        return made.cell
    if made.store_id is None:
        return cell_of_queue(made.brand, made.queue or "")
    row = roster.store_row(made.brand, made.store_id)
    return roster.cell_of(row) if row >= 0 else cell_name(made.brand, None)

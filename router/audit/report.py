"""The verdict of the audit, for people and for machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Report:
    """What the records say so far; while a run goes on, ``lost`` is what is not answered yet.

    When nothing is lost, ``leads_in + reservations_in`` is the sum of ``assigned``, ``waiting``, ``closed``,
    ``dead_lettered``, ``duplicates_in`` and ``changes_in``, which are those that are not dead-lettered.
    """

    leads_in: int
    """Records on ``leads``, bad ones and repeated ones too."""
    reservations_in: int
    duplicates_in: int
    """Inputs that repeat an id (of reservations: with the same or a lower version)."""
    changes_in: int
    """Later versions of reservations."""
    assigned: int
    """Leads and reservations that a guide holds now."""
    waiting: int
    """Those that nobody holds and that are not closed."""
    closed: int
    """Won, lost or closed."""
    accepted: int
    """Offers that their guides accepted."""
    reoffered: int
    """Offers of a lead after its first one."""
    reminded: int
    """Guides reminded of an offer."""
    expired: int
    """Offers that ran out."""
    waiting_max_age_s: int
    """The longest that somebody waited in one queue, who waits now until the newest record; who booked ahead
    apart."""
    no_shows: int
    """Reservations that ended because nobody came."""
    dead_lettered: int
    lost: int
    """Inputs with neither an assignments record of their id nor a dead letter that names their offset."""
    double_assigned: int
    """Ids with two different records of one seq, or offered to a second guide while a first one held them."""
    over_capacity: int
    """Guides who at some moment held more than the highest capacity that the guides topic gave them."""
    wrong_zone: int
    """Ids offered across the price zone."""
    unknown_guide: int
    """Ids offered to a guide who was never active in the roster."""
    out_of_order: int
    """Ids with a seq that skips one, a state that must not follow the one before, or no offer."""
    unaccounted: int
    """Ids given back and neither offered again nor waiting, or in a state that should have ended long ago."""
    slots_oversold: int
    """Slots that at some moment more reservations held than the store has."""
    unasked: int
    """Ids with assignments and no input."""
    unreadable: int
    """Assignments records that are no assignment."""
    orders: int
    """Sales on ``orders`` that were not set aside, each once; so are refunds."""
    refunds: int
    postings: int
    """Different postings in the book."""
    bases: int
    """Those of them that settle a sale as the group does today."""
    overlays: int
    """Those of them that split a sale on top of how the group settles it."""
    parties: int
    """Guides, stores, managers, partners and others who have a line in the book."""
    commission_fen: int
    """Of all sales, as ``orders`` has it."""
    refunded_fen: int
    """The commission of all refunds."""
    pending_fen: int
    """What the parties hold by the book, and can still lose by a refund."""
    earned_fen: int
    """What they hold that has vested and is not settled."""
    unposted: int
    """Sales and refunds with neither a posting nor a dead letter."""
    unbalanced: int
    """Postings that do not sum to zero, are none, or stand twice with other content."""
    ledger_difference_fen: int
    """By how much bases, splits and reversals are off what was sold and given back, order by order."""
    truncated: int
    """Partitions from which the broker dropped records before they were read."""
    leads_per_s: float
    """First answers, over the time from the first input to the last first answer."""
    p50_ms: int
    """From ``occurred_at_ms`` of the input to the broker's time stamp of its first assignments record."""
    p99_ms: int
    offsets: dict[str, dict[str, int]]
    """Next offset to read, by topic and partition."""
    problems: tuple[str, ...]
    """One sentence for each kind of fault, with examples."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """The report as one JSON object, the keys that scripts rest on first."""
        first = (
            *("leads_in", "reservations_in", "assigned", "waiting", "dead_lettered", "lost"),
            *("double_assigned", "over_capacity", "leads_per_s", "p50_ms", "p99_ms", "offsets"),
            *("reoffered", "reminded", "expired", "waiting_max_age_s", "no_shows", "slots_oversold"),
            *("accepted", "orders", "refunds", "postings", "commission_fen", "pending_fen", "earned_fen"),
            *("refunded_fen", "unbalanced", "ledger_difference_fen"),
        )
        rest = [name for name in self.__dataclass_fields__ if name not in first]
        return {
            **{name: getattr(self, name) for name in first},
            "audit": "ok" if self.ok else "failed",
            **{name: getattr(self, name) for name in rest},
        }

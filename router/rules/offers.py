"""From a ranking to what the claim script is asked, and from its answer to the records that go out.

The stored answer of the script holds all that a record needs, so that a repeat publishes the same again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from router.rules.actions import action
from router.rules.intake import Request
from topics.assignments import Assignment, Cause, Turn

#: What stands for the digest of a request whose content is not compared.
NO_DIGEST = "-"

ClaimResult = Literal["ok", "waiting", "replay", "conflict"]


@dataclass(frozen=True, slots=True)
class Offer:
    """One lead as the claim script is asked about it.

    ``marked``: the cell is of a known brand, so it has a mark unless Redis lost its state. ``shortlist``
    holds ``guide|step|store|score`` entries, best first, separated by blanks; the entry of the member's own
    guide ends in ``|o``. ``horizon``: how far a turn may be behind the clock, see ``scoring.fairness``.
    """

    cell: str
    marked: bool
    horizon: int
    kind: str
    lead_id: str
    digest: str
    shortlist: str
    arrival_ms: int
    queue: str
    terms: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for an offer made now: by when to respond, under which policy."""

    now_ms: int
    respond_by_ms: int
    policy_version: int
    horizon: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the claim script decided, now or when it first saw the lead."""

    result: ClaimResult
    seq: int
    attempt: int
    stored: str

    @property
    def guide_id(self) -> str | None:
        """The guide who holds the lead by this answer, if any."""
        return self.stored.rpartition(" ")[2].split("|")[0] if self.stored.startswith("offered") else None

    @property
    def turn_start(self) -> int:
        """Where the turn of the guide began, see ``scoring.fairness``; 0 without one."""
        return int(self.stored.split(" ")[-2])


def offer(request: Request, cell: str, shortlist: str, terms: Terms, *, marked: bool) -> Offer:
    """Ask for one lead: its terms are fixed now and kept with the answer."""
    arrival_ms = request.event.occurred_at_ms
    return Offer(
        cell,
        marked,
        terms.horizon,
        request.kind,
        request.lead_id,
        request.digest or NO_DIGEST,
        shortlist,
        arrival_ms,
        queue_of(request, cell),
        f"{terms.now_ms} {terms.respond_by_ms} {terms.policy_version} {arrival_ms}",
    )


#: The queue of headquarters: for leads that no market can be found for. ``@`` cannot begin a market's name.
HQ = "@hq"


def queue_of(request: Request, cell: str) -> str:
    """The named queue in which a lead waits: its market's, or its store's in that market.

    The name begins with the market, so that the log tells the cell in which a lead waits.
    """
    market = cell.partition("/")[2]
    queue = HQ if market == "-" else market
    return queue if request.event.store_id is None else f"{queue}/store/{request.event.store_id}"


def cell_of_queue(brand: str, queue: str) -> str:
    """The cell of a queue that ``queue_of`` has named."""
    market = queue.partition("/")[0]
    return f"{brand}/{'-' if market == HQ else market}"


def assignment(request: Request, answer: Answer) -> Assignment:
    """The record of an answer; the same for every repeat of the same request."""
    event = request.event
    state, at_ms, respond_by_ms, policy_version, lead_at_ms, start, choice = answer.stored.split(" ")
    common: dict[str, Any] = {
        "brand": event.brand,
        "lead_id": request.lead_id,
        "kind": request.kind,
        "seq": answer.seq,
        "attempt": answer.attempt,
        "at_ms": int(at_ms),
        "member_id": event.member_id,
        "policy_version": int(policy_version),
        "cause": Cause(kind=request.kind, id=request.lead_id),
        "respond_by_ms": int(respond_by_ms),
        "lead_at_ms": int(lead_at_ms),
        "digest": request.digest,
    }
    if state == "waiting":
        return Assignment(**common, state="waiting", queue=choice)
    guide_id, step, store_id, score, *owner = choice.split("|")
    return Assignment(
        **common,
        state="offered",
        guide_id=guide_id,
        store_id=store_id,
        score=float(score),
        turn=Turn(start=int(start), end=int(start) + int(step)),
        action=action(event, store_id, int(respond_by_ms) - int(at_ms), is_owner=bool(owner)),
    )


def stored_answer(made: Assignment) -> str:
    """What the claim script has stored for a record that ``assignment`` made."""
    turn = made.turn or Turn(start=0, end=0)
    if made.state == "waiting":
        choice = made.queue
    else:
        owner = "|o" if made.action is not None and made.action.code.endswith(".owner") else ""
        choice = f"{made.guide_id}|{turn.end - turn.start}|{made.store_id}|{made.score or 0:.4f}{owner}"
    terms = f"{made.at_ms} {made.respond_by_ms} {made.policy_version} {made.lead_at_ms}"
    return f"{made.state} {terms} {turn.start} {choice}"

"""From a ranking to what the claim script is asked, and from its answers to the records that go out.

A stored answer of the script holds all that a record needs, so that a repeat publishes the same again:
``state attempt at_ms by_ms remind_ms policy start cause record choice``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from router.rules.actions import action
from router.rules.intake import Request, cause_of
from scoring.requests import TIERS
from topics.assignments import FINAL_STATES, Assignment, Cause, GuideRecord, Rung, Turn
from topics.fields import Tier
from topics.leads import Lead
from topics.reservations import Reservation

#: What stands for the digest of a request whose content is not compared.
NO_DIGEST = "-"
#: Who says so where no guide does; an id cannot be this one.
NOBODY = "*"
#: States in which another record follows in the same step.
MOMENTS = ("declined", "expired", "returned")

ClaimResult = Literal[
    "ok",
    "waiting",
    "replay",
    "conflict",
    "late",
    "illegal",
    "not_yours",
    "full",
    "nothing",
    "stale",
]


@dataclass(frozen=True, slots=True)
class Offer:
    """One lead as the claim script is asked about it; `router/state/claim.lua` tells the texts.

    ``marked``: the cell is of a known brand, so it has a mark unless Redis lost its state. ``shortlist``
    holds ``guide|step|store|score|rung`` entries, best first, separated by blanks.
    """

    cell: str
    marked: bool
    rules: str
    kind: str
    lead_id: str
    member_id: str
    digest: str
    shortlist: str
    about: str
    cause: str
    move: str
    slots: str = ""
    brought: str = ""


class Made(NamedTuple):
    """A stored answer, word by word."""

    state: str
    attempt: int
    at_ms: int
    respond_by_ms: int
    remind_at_ms: int
    policy_version: int
    start: int
    cause: str
    record: str
    choice: tuple[str, ...]

    @property
    def guide_id(self) -> str | None:
        """The guide to whom the lead was offered by this very step, if any."""
        return self.choice[0] if self.state == "offered" and len(self.choice) > _HOLDER else None


#: The words of a choice that only says who holds the lead: guide, 0, store.
_HOLDER = 3


def made(stored: str) -> Made:
    """Read a stored answer."""
    state, attempt, at_ms, by_ms, remind_ms, policy, start, cause, record, choice = stored.split(" ")
    return Made(
        state,
        int(attempt),
        int(at_ms),
        int(by_ms),
        int(remind_ms),
        int(policy),
        int(start),
        cause,
        record,
        tuple(choice.split("|")),
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What the claim script decided, now or when it first saw the cause; ``seq``: that of the first step."""

    result: ClaimResult
    state: str
    seq: int
    steps: tuple[str, ...] = ()

    @property
    def offered(self) -> Made | None:
        """The step that gave the lead to a guide, if there is one."""
        return next((step for step in map(made, self.steps) if step.guide_id is not None), None)


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for an offer, or for waiting, that begins now: until when, under which policy."""

    policy_version: int
    offer_by_ms: int
    remind_at_ms: int
    wait_by_ms: int


def about(request: Request, queue: str, tier: Tier, rung: Rung, terms: Terms) -> str:
    """What the script is told of a request."""
    limits = f"{terms.offer_by_ms} {terms.remind_at_ms} {terms.wait_by_ms}"
    arrival_ms = request.event.occurred_at_ms
    return f"{arrival_ms} {TIERS.index(tier)} {queue} {rung} {terms.policy_version} {limits}"


#: Why a reservation is closed before it began.
SLOT_FULL = "slot_full"
#: What whoever sent a change is told that finds no slot.
CHANGE_FULL = "the change's slots are taken"
#: What whoever sent a wish is told that changes nothing: a later version is known, or the visit is over.
WISH_LATE = "a later version is known, or it is over: book anew under another id"
#: The queue of headquarters: for leads that no market can be found for. ``@`` cannot begin a market's name.
HQ = "@hq"
#: Where those wait who booked ahead: in a queue of their own, so that nobody waits behind them.
BOOKED = "booked"


def queue_of(request: Request, cell: str, rung: Rung = "near") -> str:
    """The named queue in which a lead waits, ``market[/store/id][/zone/full][/needs/a+b][/stock]``.

    Further up the ladder it is ``market/region…`` or ``market/hq…``, of no store.

    Who waits in the same queue may be served by the same guides, so that nobody waits behind one whom nobody
    can serve. The name begins with the market, so that the log tells the cell in which a lead waits.
    """
    event, market = request.event, cell.partition("/")[2]
    parts = [HQ if market == "-" else market]
    if rung in {"region", "hq"}:
        parts.append(rung)
    elif event.store_id is not None:
        parts += ["store", event.store_id]
    if isinstance(event, Lead) and event.price_zone is not None:
        parts += ["zone", event.price_zone]
    if event.needs:
        parts += ["needs", "+".join(sorted({quote(need, safe="") for need in event.needs}))[:_NEEDS_MAX]]
    if isinstance(event, Lead) and event.in_stock:
        parts.append("stock")
    return "/".join(parts)


#: Needs take no more of a queue's name.
_NEEDS_MAX = 300


def in_pool_of(queue: str, store_id: str) -> bool:
    """Whether guides of a store may take out of the pool who waits in a queue of their market.

    Not those who wait for another store, nor those who go up the ladder or have booked ahead.
    """
    _, *parts = queue.split("/")
    if parts and (parts[0] in {"region", "hq"} or parts[-1] == BOOKED):
        return False
    return parts[:1] != ["store"] or parts[1] == store_id


def cell_of_queue(brand: str, queue: str) -> str:
    """The cell of a queue that ``queue_of`` has named."""
    market = queue.partition("/")[0]
    return f"{brand}/{'-' if market == HQ else market}"


def assignments(request: Request, answer: Answer) -> list[Assignment]:
    """The records of an answer; the same for every repeat of the same request."""
    return [_assignment(request, answer.seq + n, made(stored)) for n, stored in enumerate(answer.steps)]


def _assignment(request: Request, seq: int, step: Made) -> Assignment:
    event = request.event
    cause_kind, _, cause_id = step.cause.partition("|")
    common: dict[str, Any] = {
        "brand": event.brand,
        "lead_id": request.lead_id,
        "kind": request.kind,
        "seq": seq,
        "attempt": step.attempt,
        "state": step.state,
        "at_ms": step.at_ms,
        "member_id": event.member_id,
        "policy_version": step.policy_version,
        "cause": Cause(kind=cause_kind, id=cause_id),
        "respond_by_ms": step.respond_by_ms or None,
        "record": _record(step.record),
    }
    own = step.cause == "|".join(cause_of(request.kind, event))
    if seq == 1 or (own and isinstance(event, Reservation)):
        common["digest"] = request.digest
    if seq == 1 or (own and request.slots):
        common["reservation" if isinstance(event, Reservation) else "lead"] = event
        if step.state not in FINAL_STATES:
            common["slots"] = tuple(slot.partition(":")[2] for slot in request.slots.split() if ":" in slot)
        else:  # a change that has left its old store closes what finds no slot in the new one
            common["reason"] = request.reason if request.over else SLOT_FULL
            common["merged_into"] = request.merged_into
        if seq == 1:
            common["marks"] = request.marks
    if request.move is not None:
        common["cell"] = request.move.cell
    if len(step.choice) > _HOLDER and step.state in {"waiting", "withdrawn", "closed"}:
        queue, tier, arrival_ms, rung = step.choice
        common |= {"tier": TIERS[int(tier)], "lead_at_ms": int(arrival_ms), "rung": rung, "queue": queue}
        return Assignment(**common)
    guide_id, length, store_id, *rest = step.choice
    if not rest:
        return Assignment(**common, guide_id=guide_id, store_id=store_id)
    score, rung = rest
    return Assignment(
        **common,
        guide_id=guide_id,
        store_id=store_id,
        score=float(score),
        rung=rung,  # type: ignore[arg-type] # the script stores what it was told
        remind_at_ms=step.remind_at_ms or None,
        lead_at_ms=event.occurred_at_ms,
        turn=Turn(start=step.start, end=step.start + int(length)),
        action=action(event, store_id, step.respond_by_ms - step.at_ms, rung),
    )


def stored_answer(record: Assignment) -> str:
    """What the claim script has stored for a record that ``assignments`` made."""
    start = 0
    if record.guide_id is None:
        tier = TIERS.index(record.tier or "prospect")
        choice = f"{record.queue}|{tier}|{record.lead_at_ms or 0}|{record.rung}"
    elif record.turn is None:
        choice = f"{record.guide_id}|0|{record.store_id}"
    else:
        start, step = record.turn.start, record.turn.end - record.turn.start
        choice = f"{record.guide_id}|{step}|{record.store_id}|{record.score or 0:.4f}|{record.rung}"
    times = f"{record.at_ms} {record.respond_by_ms or 0} {record.remind_at_ms or 0}"
    cause = f"{record.cause.kind}|{record.cause.id}"
    return (
        f"{record.state} {record.attempt} {times} {record.policy_version} {start} {cause} "
        f"{record_text(record.record)} {choice}"
    )


def ends_ms(record: Assignment) -> int | None:
    """When the next thing is due for a lead whose newest record this is; None for never."""
    if record.state in FINAL_STATES:
        return None
    if record.state in MOMENTS:
        return record.at_ms
    return record.remind_at_ms or record.respond_by_ms or record.at_ms


def record_text(record: GuideRecord | None) -> str:
    """A guide's record as the script keeps it, ``-`` for none."""
    if record is None:
        return "-"
    shares = (record.answered, record.offered, record.won, record.closed)
    numbers = (record.silent, record.paused_until_ms, record.at_ms)
    return ",".join([*(f"{share:.3f}" for share in shares), *map(str, numbers)])


def _record(text: str) -> GuideRecord | None:
    return None if text == "-" else record_of(text)


def record_of(text: str) -> GuideRecord:
    """A guide's record from what the script keeps."""
    answered, offered, won, closed, silent, paused_until_ms, at_ms = text.split(",")
    return GuideRecord(
        answered=float(answered),
        offered=float(offered),
        won=float(won),
        closed=float(closed),
        silent=int(silent),
        paused_until_ms=int(paused_until_ms),
        at_ms=int(at_ms),
    )

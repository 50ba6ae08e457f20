"""What responses mean for their leads: requests of their own, on the way of every other one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import orjson

from router.rules.intake import Move, Record, Refusal, Request
from router.rules.lifecycle import OFFERS_AGAIN, TABLE
from router.rules.offers import MOMENTS, Answer, Made, made
from scoring.policy import Policy
from topics.assignments import FINAL_STATES, Assignment, Rung
from topics.codec import decode
from topics.leads import Lead
from topics.reservations import Reservation
from topics.responses import ROUTERS_OWN, Response

#: A response to a lead that nobody knows is kept so long.
EARLY_MAX_MS = 600_000
#: Outcomes that tell the sender what became of a response.
_TOLD = {
    "ok": "applied",
    "waiting": "applied",
    "replay": "applied",
    "conflict": "illegal",
    "nothing": "applied",
}

Whom = tuple[str, str, str, str]
"""Brand, member, kind and id of a lead."""


class Past(Protocol):
    """What is known of a lead: its cell, the record that holds what was asked for, the answers by seq."""

    @property
    def cell(self) -> str | None:
        """None for a lead that was never routed."""

    @property
    def asked(self) -> bytes | None:
        """None for a lead that was not projected yet."""

    @property
    def steps(self) -> tuple[str, ...]:
        """See ``router.rules.offers.made``; '' where one is forgotten."""

    @property
    def projected(self) -> int:
        """The newest seq that was projected; 0 for none."""

    @property
    def to(self) -> str | None:
        """The cell for which it has left, if it is on its way."""

    @property
    def told(self) -> Collection[str]:
        """The responses of which whoever sent them knows what became."""


class Outcome(NamedTuple):
    """What became of a response; ``text``: JSON, its outcome applied, late, illegal, not_yours or full."""

    lead: Whom
    response_id: str
    changed: bool
    text: bytes


@dataclass(frozen=True, slots=True)
class Understood:
    """A batch of responses: requests, what came too early, what is refused."""

    requests: list[Request] = field(default_factory=list)
    early: list[tuple[str, bytes]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def lead_of(response: Response) -> Whom:
    """Whom a response is about."""
    return (response.brand, response.member_id, response.kind, response.lead_id)


def understand(
    responses: Sequence[tuple[Response, Record]],
    pasts: Sequence[Past],
    now_ms: int,
    policy_of: Callable[[str], Policy],
) -> Understood:
    """Make requests of responses, by what is known of their leads.

    A response that comes before its lead is kept for a while, then refused as ``unknown``; what comes before
    its lead is projected, or while a reservation is on its way to another cell, is kept until then. Of what
    has changed nothing, and whoever sent it knows that, nothing comes when it is read again.
    """
    out = Understood()
    for (response, record), past in zip(responses, pasts, strict=True):
        if response.response_id in past.told and not _moved(response, steps_of(past)):
            continue
        known = past.cell is not None and bool(past.steps)
        changing = response.kind == "reservation" and _is_changing(past)
        if past.cell is None or past.asked is None or not known or changing:
            # of a lead that is known only the projection is late, however long that lasts
            if not known and response.occurred_at_ms < now_ms - EARLY_MAX_MS:
                out.refusals.append(Refusal(record, "unknown", f"no {response.kind} {response.lead_id}"))
            else:
                out.early.append((response.brand, record.value or b""))
            continue
        asked = decode(Assignment, past.asked)
        event = asked.reservation or asked.lead
        if event is None:
            out.refusals.append(Refusal(record, "unknown", "the lead's first record does not tell it"))
            continue
        policy = policy_of(response.brand)
        move = _move(response, steps_of(past), is_over(event, now_ms, policy), policy)
        if isinstance(event, Reservation):  # it is for its store
            move = replace(move, goes=False)
        # who has left goes on, whatever has happened since
        move = replace(move, here=past.cell, cell=past.to)
        held = "hq" in {policy.marks[mark] for mark in asked.marks}
        out.requests.append(
            Request(response.kind, response.lead_id, event, asked.digest, record, move, held=held)
        )
    return out


def _is_changing(past: Past) -> bool:
    """Whether a reservation is on its way to another cell, or what was asked for is out of date."""
    steps = [(seq, made(step)) for seq, step in enumerate(past.steps, 1) if step]
    versions = [seq for seq, step in steps if step.cause.startswith("reservation/")]
    return past.to is not None or max(versions, default=0) > past.projected


def is_open(past: Past) -> bool:
    """Whether a lead is known and anything may still happen to it."""
    return past.cell is not None and bool(past.steps) and steps_of(past)[-1].state not in FINAL_STATES


def steps_of(past: Past) -> list[Made]:
    """The answers of a lead so far, oldest first."""
    return [made(step) for step in past.steps if step]


def tried(steps: Sequence[Made]) -> tuple[str, ...]:
    """The guides who have given a lead back; whom a change of a reservation has let go may get it again."""
    back = (step for step in steps if step.state in MOMENTS and not step.cause.startswith("reservation/"))
    return tuple({step.choice[0] for step in back})


def _moved(response: Response, steps: Sequence[Made]) -> bool:
    """Whether a response has brought one of these steps."""
    return any(step.cause == f"response|{response.response_id}" for step in steps)


def _move(response: Response, steps: Sequence[Made], over: bool, policy: Policy) -> Move:  # noqa: FBT001
    state, rung, goes = steps[-1].state, rung_now(steps), False
    following = TABLE.get(state, {}).get(response.action)  # type: ignore[call-overload] # any state may be stored
    if state == "waiting" and response.action == "expired":
        wider = next_rung(rung, policy)
        again = _moved(response, steps)
        goes = wider is not None and not over and not again
        rung, over = (wider if goes else None) or rung, over or (wider is None and not again)
    return Move(
        response.action,
        ("response", response.response_id),
        response.attempt,
        response.guide_id,
        response,
        asks=response.action in OFFERS_AGAIN and following is not None and following.again and not over,
        tried=tried(steps),
        tries=steps[-1].attempt,
        rung=rung,
        over=over,
        goes=goes and rung in FURTHER,
    )


def is_over(event: Lead | Reservation, now_ms: int, policy: Policy) -> bool:
    """Whether the time of a lead, of a hold that nobody confirmed, or of a visit is at its end."""
    if isinstance(event, Reservation):
        return now_ms >= min(event.hold_until_ms or event.ends_at_ms, event.ends_at_ms)
    return now_ms >= event.occurred_at_ms + policy.life_max_s * 1000


def rung_now(steps: Sequence[Made]) -> Rung:
    """How far afield a lead looks: as when it last waited or was offered; after an offer at least nearby."""
    for step in reversed(steps):
        if step.state == "waiting" or step.guide_id is not None:
            rung: Rung = step.choice[-1]  # type: ignore[assignment] # the script stores what it was told
            if step.state == "waiting" or rung in FURTHER:
                return rung if step is steps[-1] or rung in FURTHER else "near"
    return "near"


#: The rungs beyond the surroundings.
FURTHER: tuple[Rung, ...] = ("region", "hq")


def next_rung(rung: Rung, policy: Policy) -> Rung | None:
    """The rung behind this one on the policy's ladder, of those for which a lead waits; None at its end."""
    ladder = [each for each in policy.ladder if each not in {"owner", "store"}]
    behind = ladder[ladder.index(rung) + 1 :] if rung in ladder else ladder
    return behind[0] if behind else None


def outcomes(requests: Sequence[Request], answers: Sequence[Answer]) -> list[Outcome]:
    """What became of each guide's response, for whoever sent it."""
    out = []
    for request, answer in zip(requests, answers, strict=True):
        response = request.move.response if request.move is not None else None
        if response is not None and response.guide_id and not response.response_id.startswith(ROUTERS_OWN):
            told = {
                "outcome": _TOLD.get(answer.result, answer.result),
                "state": answer.state,
                "seq": answer.seq,
            }
            changed = told["outcome"] == "applied"
            out.append(Outcome(lead_of(response), response.response_id, changed, orjson.dumps(told)))
    return out

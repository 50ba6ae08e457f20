"""What responses mean for their leads: requests of their own, on the way of every other one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from router.rules.intake import Move, Record, Refusal, Request
from router.rules.lifecycle import OFFERS_AGAIN, TABLE
from router.rules.offers import MOMENTS, Answer, Made, made
from scoring.policy import Policy
from topics.assignments import Assignment, Rung
from topics.codec import decode
from topics.responses import Response

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

Lead = tuple[str, str, str, str]
"""Brand, member, kind and id."""


class Past(Protocol):
    """What is known of a lead: its cell, its first record, the stored answers by seq."""

    @property
    def cell(self) -> str | None:
        """None for a lead that was never routed."""

    @property
    def first(self) -> bytes | None:
        """None for a lead that was not projected yet."""

    @property
    def steps(self) -> tuple[str, ...]:
        """See ``router.rules.offers.made``; '' where one is forgotten."""


@dataclass(frozen=True, slots=True)
class Understood:
    """A batch of responses: requests with their cells by cause, what came too early, what is refused."""

    requests: list[Request] = field(default_factory=list)
    cells: dict[tuple[str, str], str] = field(default_factory=dict)
    early: list[tuple[str, bytes]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def lead_of(response: Response) -> Lead:
    """Whom a response is about."""
    return (response.brand, response.member_id, response.kind, response.lead_id)


def understand(
    responses: Sequence[tuple[Response, Record]],
    pasts: Sequence[Past],
    now_ms: int,
    policy_of: Callable[[str], Policy],
) -> Understood:
    """Make requests of responses, by what is known of their leads.

    A response that comes before its lead is kept for a while, then refused as ``unknown``.
    """
    out = Understood()
    for (response, record), past in zip(responses, pasts, strict=True):
        if past.cell is None or past.first is None or not past.steps:
            if response.occurred_at_ms < now_ms - EARLY_MAX_MS:
                out.refusals.append(Refusal(record, "unknown", f"no {response.kind} {response.lead_id}"))
            else:
                out.early.append((response.brand, record.value or b""))
            continue
        first = decode(Assignment, past.first)
        event = first.reservation or first.lead
        if event is None:
            out.refusals.append(Refusal(record, "unknown", "the lead's first record does not tell it"))
            continue
        steps = [made(step) for step in past.steps if step]
        move = _move(response, steps, event.occurred_at_ms, now_ms, policy_of(response.brand))
        request = Request(response.kind, response.lead_id, event, first.digest, record, move)
        out.requests.append(request)
        out.cells[request.cause] = past.cell
    return out


def _move(response: Response, steps: Sequence[Made], arrival_ms: int, now_ms: int, policy: Policy) -> Move:
    state = steps[-1].state
    following = TABLE.get(state, {}).get(response.action)  # type: ignore[call-overload] # any state may be stored
    rung = rung_now(steps)
    over = now_ms >= arrival_ms + policy.life_max_s * 1000
    if state == "waiting" and response.action == "expired":
        wider = next_rung(rung, policy)
        rung, over = wider or rung, over or wider is None
    return Move(
        response,
        asks=response.action in OFFERS_AGAIN and following is not None and following.again and not over,
        tried=tuple({step.choice[0] for step in steps if step.state in MOMENTS}),
        rung=rung,
        over=over,
    )


def rung_now(steps: Sequence[Made]) -> Rung:
    """How far afield a lead has come to look: as far as the last time that it waited, at least nearby."""
    for step in reversed(steps):
        if step.state == "waiting":
            return step.choice[-1]  # type: ignore[return-value] # the script stores what it was told
    return "near"


def next_rung(rung: Rung, policy: Policy) -> Rung | None:
    """The rung behind this one on the policy's ladder, of those for which a lead waits; None at its end."""
    ladder = [each for each in policy.ladder if each not in {"owner", "store"}]
    behind = ladder[ladder.index(rung) + 1 :] if rung in ladder else ladder
    return behind[0] if behind else None


def outcomes(requests: Sequence[Request], answers: Sequence[Answer]) -> list[tuple[Lead, str, bytes]]:
    """What became of each guide's response, for whoever sent it: lead, response and a JSON text.

    ``outcome`` is applied, late, illegal, not_yours or full.
    """
    out = []
    for request, answer in zip(requests, answers, strict=True):
        if request.move is None or request.move.response.guide_id is None:
            continue
        told = {"outcome": _TOLD.get(answer.result, answer.result), "state": answer.state, "seq": answer.seq}
        response = request.move.response
        out.append((lead_of(response), response.response_id, orjson.dumps(told)))
    return out

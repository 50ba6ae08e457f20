"""A guide's response: checked against the guide's own card, published, answered with what became of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta

from router.errors import OutageError
from router.state import keys
from router.web.reading import Reading
from router.web.sending import Sending
from router.web.tokens import Caller
from topics.fields import Event, Id, RequestKind, Text
from topics.responses import ROUTERS_OWN, Response

#: What a guide may say of a card, and ``grabbed`` of a lead in the open pool; not ``delivered``.
SayableAction = Literal["seen", "accepted", "declined", "contacted", "visited", "won", "lost", "grabbed"]
#: How long a guide waits for the outcome, and how often it is looked for.
OUTCOME_S, LOOK_S, LOOK_S_MAX = 1.0, 0.02, 0.1

#: The status of each outcome that the router may write.
STATUS = {"applied": 200, "late": 409, "illegal": 409, "full": 409, "not_yours": 403, "unknown": 404}


class Said(Event, frozen=True):
    """The body of a response; who says it stands in the token alone."""

    response_id: Id
    lead_id: Id
    kind: RequestKind
    action: SayableAction
    attempt: Annotated[int, Meta(ge=0)] | None = None
    reason: Text | None = None

    def __post_init__(self) -> None:
        """Refuse the router's own names for what time brings: whoever took one would stop a clock."""
        if self.response_id.startswith(ROUTERS_OWN):
            raise ValueError(f"response_id: begins with {ROUTERS_OWN}, as only the router's own do")


@dataclass(frozen=True, slots=True)
class Reply:
    """A status and a body; ``outcome`` is from a closed set."""

    status: int
    outcome: str
    body: dict[str, Any]


NO_SUCH_LEAD = Reply(404, "not_found", {"error": "no such lead"})
PENDING = Reply(202, "pending", {"outcome": "pending", "retry": "same id"})
UNSURE = Reply(503, "outage", {"outcome": "unknown", "retry": "same id"})


class About(NamedTuple):
    """What is known of the lead that a response is about; ``attempt`` is that of the guide's card."""

    now_ms: int
    member_id: str
    attempt: int | None


@dataclass(frozen=True, slots=True)
class Answers:
    """Takes responses; the same one again gets the same answer."""

    reading: Reading
    sending: Sending

    async def answer(self, caller: Caller, said: Said) -> Reply:
        """Publish what a guide says unless it is answered already, and wait a moment for the outcome."""
        try:
            about = await self._about(caller, said)
            if about is None:
                return NO_SUCH_LEAD
            journey = keys.journey(caller.brand, about.member_id, said.kind, said.lead_id)
            outcome = await self.reading.outcome(journey, said.response_id)
            if outcome is None:
                # whoever hangs up does not stop a record that is half on its way
                await asyncio.shield(self.sending.send(response(caller, said, about)))
                outcome = await self._outcome(journey, said.response_id)
        except OutageError:
            return UNSURE
        return PENDING if outcome is None else reply(outcome)

    async def _about(self, caller: Caller, said: Said) -> About | None:
        """By the guide's own card, or for who takes a lead by the open pool of the guide's store."""
        now_ms, made = await self.reading.held((caller.brand, caller.guide_id), said.kind, said.lead_id)
        if said.action != "grabbed":
            return None if made is None else About(now_ms, made.member_id, made.attempt)
        for each in await self.reading.pool(caller):
            if (each.kind, each.lead_id) == (said.kind, said.lead_id):
                return About(now_ms, each.member_id, None)
        # the same id again, after the guide has got it
        return None if made is None else About(now_ms, made.member_id, None)

    async def _outcome(self, journey: str, response_id: str) -> dict[str, Any] | None:
        clock = asyncio.get_running_loop().time
        until_s, pause_s = clock() + OUTCOME_S, LOOK_S
        while (outcome := await self.reading.outcome(journey, response_id)) is None and clock() < until_s:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LOOK_S_MAX)
        return outcome


def response(caller: Caller, said: Said, about: About) -> Response:
    """The record: who by the token, which member and which offer by what the gateway knows of the lead."""
    grabbed = said.action == "grabbed"  # answers no offer
    return Response(
        response_id=said.response_id,
        lead_id=said.lead_id,
        member_id=about.member_id,
        brand=caller.brand,
        occurred_at_ms=about.now_ms,
        action=said.action,
        kind=said.kind,
        attempt=about.attempt if said.attempt is None or grabbed else said.attempt,
        guide_id=caller.guide_id,
        reason=said.reason,
    )


def reply(outcome: dict[str, Any]) -> Reply:
    """What a guide is told of an outcome: never whose the lead is now."""
    name = outcome["outcome"] if outcome["outcome"] in STATUS else "unknown"
    body = {"outcome": name}
    if name in {"applied", "late", "illegal"}:
        body |= {field: outcome[field] for field in ("state", "seq") if field in outcome}
    return Reply(STATUS[name], name, body)

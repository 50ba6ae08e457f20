"""What became of an assignment: answers of guides, and due times that the router publishes to itself."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from topics.fields import Event, Id, Ms, RequestKind, Text

GuideAction = Literal["delivered", "seen", "accepted", "declined", "contacted", "visited", "won", "lost"]
#: What the ids begin with that the router gives to its own responses: they can be foreseen, so nobody else
#: may use them.
ROUTERS_OWN = "t."
RouterAction = Literal["expired", "closing", "withdrawn", "returned", "grabbed", "drain"]


class Response(Event, frozen=True):
    """Identity: (brand, response, ``response_id``). ``attempt`` says which offer it answers."""

    response_id: Id
    lead_id: Id
    member_id: Id
    brand: Id
    occurred_at_ms: Ms
    action: GuideAction | RouterAction
    kind: RequestKind = "lead"
    attempt: Annotated[int, Meta(ge=0)] | None = None
    guide_id: Id | None = None
    reason: Text | None = None

    def __post_init__(self) -> None:
        """Refuse that nobody takes a lead from the pool."""
        if self.action == "grabbed" and self.guide_id is None:
            raise ValueError("guide_id: is required when action is grabbed")

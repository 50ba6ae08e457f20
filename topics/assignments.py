"""What the router decided: the commit point of the whole system, and why."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from topics.fields import Count, Event, Id, Ms, QueueName, RequestKind, Text, Tier, Version
from topics.leads import Lead
from topics.reservations import Reservation

State = Literal[
    "waiting",
    "offered",
    "delivered",
    "seen",
    "accepted",
    "contacted",
    "visited",
    "won",
    "lost",
    "declined",
    "expired",
    "withdrawn",
    "returned",
    "closed",
]

#: States in which a guide holds the lead.
LIVE_STATES: tuple[State, ...] = ("offered", "delivered", "seen", "accepted", "contacted", "visited")
#: States after which nothing more happens to the lead.
FINAL_STATES: tuple[State, ...] = ("won", "lost", "withdrawn", "closed")
#: States in which no guide need ever have been chosen.
_UNASSIGNED: tuple[State, ...] = ("waiting", "withdrawn", "closed")
#: How far afield a lead looks for a guide.
Rung = Literal["owner", "store", "near", "region", "hq"]
#: Who is no customer: works here, works for somebody else, or shared with themselves.
Mark = Literal["staff", "competitor", "self_dealing"]


class Cause(Event, frozen=True):
    """What made the router write this record: the kind of event and its id."""

    kind: Text
    id: Id


class Action(Event, frozen=True):
    """The one next step of the guide: a code for machines, a sentence for the person."""

    code: Id
    text: Text


class Turn(Event, frozen=True):
    """A guide's turn, see ``scoring.fairness``: where this offer began, and where the turn is since."""

    start: Count
    end: Count


class GuideRecord(Event, frozen=True):
    """What a guide has done so far, faded to ``at_ms``: offers and answers, leads closed and won.

    ``silent``: offers running that were not answered; while ``at_ms`` is before ``paused_until_ms`` no lead
    is offered.
    """

    answered: Annotated[float, Meta(ge=0)]
    offered: Annotated[float, Meta(ge=0)]
    won: Annotated[float, Meta(ge=0)]
    closed: Annotated[float, Meta(ge=0)]
    silent: Count
    paused_until_ms: Ms
    at_ms: Ms


class Assignment(Event, frozen=True):
    """Identity: (brand, kind, lead_id, ``seq``): the first record wins, the highest ``seq`` is the state.

    ``respond_by_ms``: when this state ends by itself. ``lead`` or ``reservation``: what was asked for, in the
    first record and where it has changed. ``record``: the guide's, after this step.
    ``merged_into``: the open lead that this one asks for the same as.
    """

    brand: Id
    lead_id: Id
    kind: RequestKind
    seq: Annotated[int, Meta(ge=1)]
    attempt: Annotated[int, Meta(ge=0)]
    state: State
    at_ms: Ms
    member_id: Id
    policy_version: Version
    cause: Cause
    guide_id: Id | None = None
    store_id: Id | None = None
    queue: QueueName | None = None
    score: float | None = None
    respond_by_ms: Ms | None = None
    remind_at_ms: Ms | None = None
    rung: Rung | None = None
    tier: Tier | None = None
    action: Action | None = None
    lead_at_ms: Ms | None = None
    turn: Turn | None = None
    record: GuideRecord | None = None
    lead: Lead | None = None
    reservation: Reservation | None = None
    slots: Annotated[tuple[Text, ...], Meta(max_length=96, description="store|service|start, held now")] = ()
    marks: tuple[Mark, ...] = ()
    cell: Annotated[QueueName, Meta(description="to which the lead has moved by this step")] | None = None
    reason: Text | None = None
    merged_into: Id | None = None
    digest: (
        Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(?!\n)$", description="of the lead that was first seen")]
        | None
    ) = None

    def __post_init__(self) -> None:
        """From the offer on, who and where are part of the record."""
        if self.state not in _UNASSIGNED and (self.guide_id is None or self.store_id is None):
            raise ValueError(f"guide_id, store_id: are required when state is {self.state}")
        if self.state == "waiting" and self.queue is None:
            raise ValueError("queue: is required when state is waiting")


class RunnerUp(Event, frozen=True):
    """A guide who was not chosen, and by how much."""

    guide_id: Id
    score: float
    margin: float


class Decision(Event, frozen=True):
    """Why an assignment came out as it did; never part of what a guide receives."""

    brand: Id
    lead_id: Id
    kind: RequestKind
    seq: Annotated[int, Meta(ge=1)]
    attempt: Annotated[int, Meta(ge=0)]
    at_ms: Ms
    member_id: Id
    policy_version: Version
    candidates: Annotated[Count, Meta(description="guides looked at")]
    filters: Annotated[dict[str, int], Meta(description="guides refused, by the first filter that refused")]
    guide_id: Id | None = None
    score: float | None = None
    contributions: Annotated[
        dict[str, float], Meta(description="weight x feature of the winner; sums to score")
    ] = {}
    runners_up: tuple[RunnerUp, ...] = ()
    queue: QueueName | None = None

"""Raw records in, routing requests out; what is no request is refused with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from msgspec.structs import replace

from router.rules.horizon import AGE_MAX_MS, AHEAD_MAX_MS, DAY_MS, Untimely, untimely
from topics.assignments import Mark, Rung
from topics.bindings import Binding
from topics.catalog import LEADS, RESERVATIONS, Topic
from topics.codec import BadEventError, BadReason, decode, digest_of
from topics.commissions import LedgerCommand
from topics.fields import RequestKind
from topics.leads import Lead
from topics.orders import Order
from topics.reservations import Reservation
from topics.responses import Response
from topics.touches import Touch

RefusalReason = (
    BadReason
    | Untimely
    | Literal[
        "bug",
        "command_refused",
        "conflict",
        "late",
        "refund_over_sale",
        "refund_without_sale",
        "slot_full",
        "transfer_budget",
        "unknown",
        "unsupported",
    ]
)

E = TypeVar("E", Binding, LedgerCommand, Order, Response, Touch)

#: What is kept for ever is never too old.
_FOR_EVER = (Binding, LedgerCommand)


class Record(Protocol):
    """What is used of a record as the broker handed it over."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


@dataclass(slots=True)
class Taken:
    """A record that no broker hands over: it was kept, or made up."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


#: Stands for the record of an event that was not read from anywhere.
NOWHERE: Record = Taken("", 0, 0, None, None, 0)


@dataclass(frozen=True, slots=True)
class Move:
    """What happened to a lead, and how the lead stood when it was looked at.

    ``attempt`` and ``guide_id``: of which offer and by whom, where that is told. ``asks``: somebody is wanted
    for it; ``tried``: the guides who have given it back; ``rung``: how far afield it looks; ``over``: nobody
    is asked again, the lead is closed if this was its last chance. ``here``: the cell it is in; ``goes``:
    further afield by this step, to which ``cell``, with what it ``brought``; ``place``: in degrees, around
    which it looks there.
    """

    action: str
    cause: tuple[str, str]
    attempt: int | None = None
    guide_id: str | None = None
    response: Response | None = None
    asks: bool = False
    tried: tuple[str, ...] = ()
    tries: int = 0
    rung: Rung = "near"
    over: bool = False
    here: str = ""
    goes: bool = False
    cell: str | None = None
    place: tuple[float, float] | None = None
    brought: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A wish to be routed: a lead, a reservation that needs a guide, or what has happened to either.

    ``digest`` tells whether the same id came again with other content; None where that is no conflict.
    ``move`` is None for one that is new, ``over`` where that is over before it began. ``slots``: those that a
    reservation takes, see ``router.rules.booking``. ``marks``, ``held`` (for headquarters alone), ``reason``
    and ``merged_into``: see ``router.rules.meeting``.
    """

    kind: RequestKind
    lead_id: str
    event: Lead | Reservation
    digest: str | None
    record: Record
    move: Move | None = None
    slots: str = ""
    over: bool = False
    held: bool = False
    marks: tuple[Mark, ...] = ()
    reason: str | None = None
    merged_into: str | None = None

    @property
    def cause(self) -> tuple[str, str]:
        """Kind and id of the event that asks: the same cause has the same answer."""
        return cause_of(self.kind, self.event) if self.move is None else self.move.cause

    @property
    def visit_ms(self) -> int | None:
        """When somebody has to be there for it, epoch ms; None for at once."""
        event = self.event
        return event.starts_at_ms if isinstance(event, Reservation) and event.status != "arrived" else None


def cause_of(kind: RequestKind, event: Lead | Reservation) -> tuple[str, str]:
    """What a request itself is as a cause: each version of a reservation is one of its own."""
    if isinstance(event, Reservation):
        return (f"reservation/{event.version}", event.reservation_id)
    return (kind, event.lead_id)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that goes to the dead letters, and why."""

    record: Record
    reason: RefusalReason
    detail: str


def read(topic: Topic, records: Sequence[Record]) -> tuple[list[Request], list[Refusal]]:
    """Decode a batch of ``leads`` or ``reservations``; both lists keep the order of the records."""
    read_one = {LEADS.name: _lead, RESERVATIONS.name: _reservation}[topic.name]
    requests: list[Request] = []
    refusals: list[Refusal] = []
    for record in records:
        try:
            request = read_one(record)
        except BadEventError as error:
            refusals.append(Refusal(record, error.reason, error.detail))
            continue
        reason = untimely(request.event.occurred_at_ms, record.timestamp)
        if reason is None:
            requests.append(request)
        else:
            refusals.append(_untimely(record, request.event.occurred_at_ms, reason))
    return requests, refusals


def decoded(event_type: type[E], records: Sequence[Record]) -> tuple[list[tuple[E, Record]], list[Refusal]]:
    """Decode a batch of a topic that asks for no routing; both lists keep the order of the records."""
    events: list[tuple[E, Record]] = []
    refusals: list[Refusal] = []
    for record in records:
        try:
            event = decode(event_type, record.value)
        except BadEventError as error:
            refusals.append(Refusal(record, error.reason, error.detail))
            continue
        reason = untimely(event.occurred_at_ms, record.timestamp, for_ever=event_type in _FOR_EVER)
        if reason is None:
            events.append((event, record))
        else:
            refusals.append(_untimely(record, event.occurred_at_ms, reason))
    return events, refusals


def _untimely(record: Record, occurred_at_ms: int, reason: Untimely) -> Refusal:
    days = (AHEAD_MAX_MS if reason == "future" else AGE_MAX_MS) // DAY_MS
    where = "ahead of" if reason == "future" else "before"
    detail = f"occurred_at_ms: {occurred_at_ms} is more than {days} d {where} {record.timestamp}"
    return Refusal(record, reason, detail)


def _lead(record: Record) -> Request:
    lead = decode(Lead, record.value)
    if lead.list_id is None:
        return Request("lead", lead.lead_id, lead, digest_of(lead), record)
    # a row of a list is dated by its sending: the same row sent again says the same
    return Request("list", lead.lead_id, lead, digest_of(replace(lead, occurred_at_ms=0)), record)


def _reservation(record: Record) -> Request:
    reservation = decode(Reservation, record.value)
    # a later version is a change, not a conflict: content is compared with that of the same version
    return Request("reservation", reservation.reservation_id, reservation, digest_of(reservation), record)

"""Raw records in, routing requests out; what is no request is refused with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from topics.catalog import LEADS, RESERVATIONS, Topic
from topics.codec import BadEventError, BadReason, decode, digest_of
from topics.fields import Event, RequestKind
from topics.leads import Lead
from topics.reservations import Reservation

RefusalReason = BadReason | Literal["bug", "conflict", "transfer_budget", "unsupported"]

E = TypeVar("E", bound=Event)


class Record(Protocol):
    """What is used of a record as the broker handed it over."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


@dataclass(frozen=True, slots=True)
class Request:
    """A wish to be routed: a lead, or a reservation that needs a guide.

    ``digest`` tells whether the same id came again with other content; None where that is no conflict.
    """

    kind: RequestKind
    lead_id: str
    event: Lead | Reservation
    digest: str | None
    record: Record


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
            result = read_one(record)
        except BadEventError as error:
            refusals.append(Refusal(record, error.reason, error.detail))
        else:
            (requests if isinstance(result, Request) else refusals).append(result)  # type: ignore[arg-type]
    return requests, refusals


def decoded(event_type: type[E], records: Sequence[Record]) -> tuple[list[tuple[E, Record]], list[Refusal]]:
    """Decode a batch of a topic that asks for no routing; both lists keep the order of the records."""
    events: list[tuple[E, Record]] = []
    refusals: list[Refusal] = []
    for record in records:
        try:
            events.append((decode(event_type, record.value), record))
        except BadEventError as error:
            refusals.append(Refusal(record, error.reason, error.detail))
    return events, refusals


def _lead(record: Record) -> Request:
    lead = decode(Lead, record.value)
    return Request("lead", lead.lead_id, lead, digest_of(lead), record)


def _reservation(record: Record) -> Request | Refusal:
    reservation = decode(Reservation, record.value)
    if reservation.status != "booked":
        # set aside whole until changes, cancellations and visits have rules of their own
        return Refusal(record, "unsupported", f"status {reservation.status} is not followed yet")
    # a later version is a change, not a conflict: its content is not compared
    return Request("reservation", reservation.reservation_id, reservation, None, record)

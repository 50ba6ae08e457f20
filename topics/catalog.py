"""The list of all topics: name, key, shape and how long it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from topics.assignments import Assignment, Decision
from topics.bindings import Binding
from topics.commissions import LedgerCommand, Posting
from topics.fields import Event
from topics.guides import Guide, Presence
from topics.leads import Lead
from topics.members import Member
from topics.orders import Order
from topics.policies import Policy
from topics.reservations import Reservation
from topics.responses import Response
from topics.stores import Store
from topics.touches import Touch

#: How long a stream is kept. Everything live is younger, because every state has a time limit.
STREAM_RETENTION_MS = 14 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Topic:
    """One stream.

    ``key`` names the fields whose values, joined by ``/``, key its messages. ``kept`` says how long:
    a *stream* for the stream retention, a *book* for ever, a *reference* compacted to its newest values.
    ``event`` is None for dead letters, whose value is the original bytes.
    """

    name: str
    key: tuple[str, ...]
    event: type[Event] | None
    kept: Literal["stream", "book", "reference"]

    @property
    def by_member(self) -> bool:
        """Member-keyed topics share one partition count, so that a member is always in the same place."""
        return self.key == ("member_id",)


LEADS = Topic("leads", ("member_id",), Lead, "stream")
RESERVATIONS = Topic("reservations", ("member_id",), Reservation, "stream")
TOUCHES = Topic("touches", ("member_id",), Touch, "stream")
ORDERS = Topic("orders", ("member_id",), Order, "stream")
RESPONSES = Topic("responses", ("member_id",), Response, "stream")
BINDINGS = Topic("bindings", ("member_id",), Binding, "book")
MEMBERS = Topic("members", ("brand", "member_id"), Member, "reference")
STORES = Topic("stores", ("brand", "store_id"), Store, "reference")
GUIDES = Topic("guides", ("brand", "guide_id"), Guide, "reference")
PRESENCE = Topic("presence", ("brand", "guide_id"), Presence, "reference")
POLICIES = Topic("policies", ("brand", "version"), Policy, "book")
ASSIGNMENTS = Topic("assignments", ("member_id",), Assignment, "stream")
DECISIONS = Topic("decisions", ("member_id",), Decision, "stream")
COMMISSIONS = Topic("commissions", ("brand",), Posting, "book")
LEDGER_COMMANDS = Topic("ledger-commands", ("brand",), LedgerCommand, "book")
DEAD_LETTERS = Topic("dead-letters", (), None, "stream")

TOPICS: tuple[Topic, ...] = (
    LEADS,
    RESERVATIONS,
    TOUCHES,
    ORDERS,
    RESPONSES,
    BINDINGS,
    MEMBERS,
    STORES,
    GUIDES,
    PRESENCE,
    POLICIES,
    ASSIGNMENTS,
    DECISIONS,
    COMMISSIONS,
    LEDGER_COMMANDS,
    DEAD_LETTERS,
)

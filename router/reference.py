"""Stores, guides, presence, members' tiers and policies, in full in every worker.

They are read without a consumer group, to the end before the worker is ready, then tailed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from router.rules.intake import Request
from router.rules.offers import Answer
from scoring.policy import Policy, PolicyError, parse
from scoring.roster import Roster, build, effective_capacity
from topics.catalog import GUIDES, MEMBERS, POLICIES, PRESENCE, STORES, Topic
from topics.codec import BadEventError, decode
from topics.fields import Tier
from topics.guides import Guide, Presence
from topics.members import Member
from topics.policies import Policy as PolicyEvent
from topics.stores import Store

log = logging.getLogger(__name__)

REFERENCE_TOPICS: tuple[Topic, ...] = (STORES, GUIDES, PRESENCE, MEMBERS, POLICIES)

#: Versions and times have at most 16 digits.
_PAST_VERSIONS = 10**16

#: Cell, guide, version, effective capacity.
CapacityRow = tuple[str, str, int, int]


class Reference:
    """The newest value of everything, and the columns made of it."""

    def __init__(self, refused: Callable[[str, str], None]) -> None:
        self._refused = refused
        self._events: dict[str, dict[str, Any]] = {topic.name: {} for topic in REFERENCE_TOPICS}
        self._policies: dict[str, Policy] = {}
        self._default = Policy()
        self._dirty = False
        self._told: dict[tuple[str, str], tuple[int, int]] = {}
        self.roster: Roster = build([], [], [], capacity_default=self._default.capacity_default)
        self._rebuild()

    def apply(self, topic: Topic, key: bytes | None, value: bytes | None) -> None:
        """Take one record; an older version changes nothing, a null value removes, a bad one is refused."""
        name = (key or b"").decode("utf-8", "replace")
        try:
            if value is None:
                self._dirty |= self._events[topic.name].pop(name, None) is not None
            elif topic.event is not None:
                self._take(topic, decode(topic.event, value))
        except (BadEventError, PolicyError) as error:
            # what was known before stays; every worker reads this record, so none writes a dead letter
            log.warning("%s %r refused: %s", topic.name, name, error)
            self._refused(topic.name, getattr(error, "reason", "invalid"))

    def _take(self, topic: Topic, event: Any) -> None:  # noqa: ANN401 - the event type of the topic
        if isinstance(event, PolicyEvent):
            known = self._policies.get(event.brand)
            if known is None or event.version >= known.version:
                self._policies[event.brand] = parse(event.toml, event.version)
            return
        held = self._events[topic.name]
        identity = _identity(event)
        known = held.get(identity)
        if known is None or _age(event) >= _age(known):
            held[identity] = event
            self._dirty = True

    def refresh(self, now_ms: int) -> list[CapacityRow]:
        """Make the columns anew where something changed; what Redis has to be told comes back.

        Call ``told`` with it once Redis knows.
        """
        if self._dirty:
            self._dirty = False
            self._rebuild()
        capacity = effective_capacity(self.roster, now_ms)
        changed = (capacity != self._told_capacity) | self._untold
        return self._gone + [
            (*self._places[row], self._versions[row], int(capacity[row]))
            for row in np.flatnonzero(changed).tolist()
        ]

    def told(self, rows: Iterable[CapacityRow]) -> None:
        """Redis knows these now."""
        for cell, guide_id, version, capacity in rows:
            self._told[cell, guide_id] = (version, capacity)
        self._compare()

    def _rebuild(self) -> None:
        stores, guides = self._events[STORES.name], self._events[GUIDES.name]
        presence = self._events[PRESENCE.name]
        loads = self.loads()
        self.roster = roster = build(
            stores.values(),
            guides.values(),
            presence.values(),
            capacity_default=self._default.capacity_default,
        )
        self.set_loads(loads)
        cell_of = [roster.cell_of(row) for row in range(len(roster.store_ids))]
        self._places = [
            (cell_of[store], guide_id)
            for store, guide_id in zip(roster.guide_store.tolist(), roster.guide_ids, strict=True)
        ]
        self._versions: list[int] = []
        for cell, guide_id in self._places:
            identity = f"{cell.partition('/')[0]}/{guide_id}"
            guide, here = guides[identity], presence.get(identity)
            store = stores[f"{guide.brand}/{guide.store_id}"]
            # it grows with each part, so that workers that know more overrule the others; the guide's comes
            # first because it names the store, and the store a guide moves to may have a lower version
            version = guide.version * _PAST_VERSIONS + store.version
            self._versions.append(version * _PAST_VERSIONS + (here.occurred_at_ms if here else 0))
        self._compare()

    def _compare(self) -> None:
        """Line up what Redis knows with the rows; who has left a cell keeps no room there."""
        told = [self._told.get(place, (-1, -1)) for place in self._places]
        known = zip(told, self._versions, strict=True)
        self._untold = np.array([held != version for (held, _), version in known], np.bool_)
        self._told_capacity = np.array([capacity for _, capacity in told], np.int64)
        here = set(self._places)
        self._gone = [
            (*place, version, 0)
            for place, (version, capacity) in self._told.items()
            if capacity and place not in here
        ]

    def snapshot(self) -> Roster:
        """The roster with the loads of this moment: ranking and reasons of a batch must see the same ones."""
        return replace(self.roster, guide_load=self.roster.guide_load.copy())

    def loads(self) -> dict[tuple[str, str], int]:
        """Open leads by (cell, guide), as this worker knows them."""
        roster = self.roster
        return {
            (roster.cell_of(int(roster.guide_store[row])), roster.guide_ids[row]): int(roster.guide_load[row])
            for row in np.flatnonzero(roster.guide_load).tolist()
        }

    def set_loads(self, loads: dict[tuple[str, str], int]) -> None:
        """Enter open leads by (cell, guide); guides not named in their cell have none."""
        roster = self.roster
        values = np.zeros(len(roster.guide_ids), np.int32)
        for (cell, guide_id), load in loads.items():
            row = roster.guide_row(cell.partition("/")[0], guide_id)
            # what a guide who has moved still holds in the old cell takes no room in the new one
            if row >= 0 and roster.cell_of(int(roster.guide_store[row])) == cell:
                values[row] = load
        roster.set_load(np.arange(len(values)), values)

    def count(self, batch: Sequence[Request], answers: Sequence[Answer]) -> None:
        """Count the places that the claims of a batch have taken."""
        rows = [
            self.roster.guide_row(request.event.brand, answer.guide_id)
            for request, answer in zip(batch, answers, strict=True)
            if answer.result == "ok" and answer.guide_id is not None
        ]
        taken = np.array([row for row in rows if row >= 0], np.int64)
        np.add.at(self.roster.guide_load, taken, 1)

    def by_policy(self, requests: Sequence[Request]) -> list[tuple[Policy, list[Request]]]:
        """Group requests by the policy that rules them; most often there is one group."""
        groups: dict[int, tuple[Policy, list[Request]]] = {}
        for request in requests:
            policy = self._policies.get(request.event.brand, self._default)
            groups.setdefault(id(policy), (policy, []))[1].append(request)
        return list(groups.values())

    def tiers(self, batch: Sequence[Request]) -> list[Tier]:
        """The tier of each request: its own, else its member's, else prospect."""
        members = self._events[MEMBERS.name]
        out: list[Tier] = []
        for request in batch:
            event = request.event
            member = members.get(f"{event.brand}/{event.member_id}")
            out.append(event.tier or (member.tier if member else None) or "prospect")
        return out

    def cell_of_guide(self, brand: str, guide_id: str) -> str:
        """The cell of a guide's store; '' for a guide nobody knows."""
        row = self.roster.guide_row(brand, guide_id)
        return self.roster.cell_of(int(self.roster.guide_store[row])) if row >= 0 else ""


def _identity(event: Store | Guide | Presence | Member) -> str:
    if isinstance(event, Store):
        return f"{event.brand}/{event.store_id}"
    if isinstance(event, Member):
        return f"{event.brand}/{event.member_id}"
    return f"{event.brand}/{event.guide_id}"


def _age(event: Store | Guide | Presence | Member) -> int:
    return event.occurred_at_ms if isinstance(event, Presence) else event.version

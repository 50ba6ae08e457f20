"""Stores, guides, presence, members' tiers and policies, in full in every worker.

They are read without a consumer group, to the end before the worker is ready, then tailed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from router.rules.intake import Request
from router.rules.offers import Answer
from scoring.layout import cell_name
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
        self._loads: dict[str, dict[str, int]] = {}
        self._guessed: set[int] = set()
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

    def untell(self) -> None:
        """Redis knows nothing any more: tell it everything again."""
        self._told.clear()
        self._compare()

    def told(self, rows: Iterable[CapacityRow]) -> None:
        """Redis knows these now."""
        for cell, guide_id, version, capacity in rows:
            self._told[cell, guide_id] = (version, capacity)
        self._compare()

    def _rebuild(self) -> None:
        stores, guides = self._events[STORES.name], self._events[GUIDES.name]
        presence = self._events[PRESENCE.name]
        self.roster = roster = build(
            stores.values(),
            guides.values(),
            presence.values(),
            capacity_default=self._default.capacity_default,
        )
        cell_of = [roster.cell_of(row) for row in range(len(roster.store_ids))]
        self._places = [
            (cell_of[store], guide_id)
            for store, guide_id in zip(roster.guide_store.tolist(), roster.guide_ids, strict=True)
        ]
        self.set_loads({})
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

    @property
    def cells(self) -> list[str]:
        """The cells of all stores, and of each brand the one for leads that no market can be found for."""
        return list(dict.fromkeys((*self.roster.cells, *(cell_name(b, None) for b in self.roster.brands))))

    def snapshot(self) -> Roster:
        """The roster with the loads of this moment: ranking and reasons of a batch must see the same ones."""
        return replace(self.roster, guide_load=self.roster.guide_load.copy())

    def set_loads(self, cells: Mapping[str, Mapping[str, int]]) -> None:
        """Take over the open leads of whole cells, by guide; guides not named in their cell have none."""
        self._loads |= {cell: dict(loads) for cell, loads in cells.items()}
        values = np.zeros(len(self.roster.guide_ids), np.int32)
        for cell, loads in self._loads.items():
            for guide_id, load in loads.items():
                if (row := self._row(cell, guide_id)) >= 0:
                    values[row] = load
        self.roster.set_load(np.arange(len(values)), values)
        self._guessed.clear()

    def change_loads(self, cell: str, loads: Iterable[tuple[str, int]]) -> None:
        """Take over how many open leads some guides of a cell have now."""
        for guide_id, load in loads:
            self._loads.setdefault(cell, {})[guide_id] = load
            if (row := self._row(cell, guide_id)) >= 0:
                self.roster.guide_load[row] = load

    def checksum(self) -> int:
        """A number of 48 bits that is the same for two workers whose columns are the same."""
        roster = self.roster
        mixed = roster.guide_hash.astype(np.uint64)
        for column in (roster.guide_load, roster.guide_capacity, roster.guide_active, roster.guide_present):
            mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x100000001B3)  # as FNV-1a, by row
        return int(mixed.sum() % np.uint64(2**48))

    def over_capacity(self) -> int:
        """Open leads beyond what their guides may hold, which only a failover or a lower capacity brings."""
        return int(np.maximum(self.roster.guide_load - self.roster.guide_capacity, 0).sum())

    def _row(self, cell: str, guide_id: str) -> int:
        """The row of a guide of that cell; what one who moved still holds takes no room in the new cell."""
        row = self.roster.guide_row(cell.partition("/")[0], guide_id)
        return row if row >= 0 and self._places[row][0] == cell else -1

    def count(self, batch: Sequence[Request], answers: Sequence[Answer]) -> None:
        """Count the places that the claims of a batch have taken, until Redis tells (``forget_guesses``)."""
        rows = [
            self.roster.guide_row(request.event.brand, answer.guide_id)
            for request, answer in zip(batch, answers, strict=True)
            if answer.result == "ok" and answer.guide_id is not None
        ]
        taken = np.array([row for row in rows if row >= 0], np.int64)
        np.add.at(self.roster.guide_load, taken, 1)
        self._guessed.update(taken.tolist())

    def forget_guesses(self) -> None:
        """Go back to the loads that Redis has told: it tells of these claims as well, or has told already."""
        for row in self._guessed:
            cell, guide_id = self._places[row]
            self.roster.guide_load[row] = self._loads.get(cell, {}).get(guide_id, 0)
        self._guessed.clear()

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

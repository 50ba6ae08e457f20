"""Stores, guides, presence, members' tiers and policies, in full in every worker.

They are read without a consumer group, to the end before the worker is ready, then tailed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from router.rules.intake import Request
from router.rules.offers import Answer
from router.timezones import zone
from scoring.build import build, compact
from scoring.layout import cell_name, guide_table, store_table
from scoring.policy import Policy, PolicyError, parse
from scoring.roster import Roster, effective_capacity
from scoring.update import put_guides, put_stores, remove_guides, remove_stores
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

#: Columns are laid out anew when more of their rows than this share were left behind.
_FRAGMENTATION_MAX = 0.25

#: Stands for the cell itself among the guides of a cell, since no id holds it.
CLOCK = "|"

#: Cell, guide, version, effective capacity.
CapacityRow = tuple[str, str, int, int]


class Reference:
    """The newest value of everything, and the columns made of it."""

    def __init__(self, refused: Callable[[str, str], None]) -> None:
        self._refused = refused
        self._events: dict[str, dict[str, Any]] = {topic.name: {} for topic in REFERENCE_TOPICS}
        self._policies: dict[str, Policy] = {}
        self._default = Policy()
        self._changed_stores: set[str] = set()
        self._changed_guides: set[str] = set()
        #: Store to the guides who wait for it: they are nobody's as long as nobody knows it.
        self._homeless: dict[str, set[str]] = {}
        #: Cell and guide to version and capacity: what Redis knows, and what it has to be told.
        self._told: dict[tuple[str, str], tuple[int, int]] = {}
        self._due: dict[tuple[str, str], tuple[int, int]] = {}
        #: Cell to guide to open leads and turn, as Redis has told, and the cell's clock as the turn of ``|``.
        self._known: dict[str, dict[str, tuple[int, int]]] = {}
        #: The rows where claims of our own were added since.
        self._guessed: set[int] = set()
        self._cell_count = 0
        self._now_ms: int | None = None
        self._laid_out = False
        self.roster: Roster = build([], [], [], capacity_default=self._default.capacity_default)

    def apply(self, topic: Topic, key: bytes | None, value: bytes | None) -> None:
        """Take one record; an older version changes nothing, a null value removes, a bad one is refused."""
        name = (key or b"").decode("utf-8", "replace")
        try:
            if value is None:
                if self._events[topic.name].pop(name, None) is not None:
                    self._note(topic, name)
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
            self._note(topic, identity)

    def _note(self, topic: Topic, identity: str) -> None:
        """Remember what the next refresh has to look at."""
        if topic is STORES:
            self._changed_stores.add(identity)
        elif topic in {GUIDES, PRESENCE}:
            self._changed_guides.add(identity)

    def refresh(self, now_ms: int) -> list[CapacityRow]:
        """Bring the columns up to what has changed; what Redis has to be told comes back.

        Call ``told`` with it once Redis knows.
        """
        self.forget_guesses()
        touched = self._update() if self._laid_out else self._rebuild()
        self._enter_known(touched)
        if self._now_ms is None or now_ms < self._now_ms:
            touched.update(self._events[GUIDES.name])
        else:
            touched.update(self._turned(self._now_ms, now_ms))
        self._now_ms = now_ms
        self._compare(sorted(touched), now_ms)
        return [(*place, *due) for place, due in self._due.items()]

    def untell(self) -> None:
        """Redis knows nothing any more: tell it everything again."""
        self._told.clear()
        self._now_ms = None

    def told(self, rows: Iterable[CapacityRow]) -> None:
        """Redis knows these now."""
        for cell, guide_id, version, capacity in rows:
            self._told[cell, guide_id] = (version, capacity)
            if self._due.get((cell, guide_id)) == (version, capacity):
                del self._due[cell, guide_id]

    def _rebuild(self) -> set[str]:
        """Lay out everything at once."""
        guides = self._events[GUIDES.name]
        for identity, guide in guides.items():
            self._homeless.setdefault(f"{guide.brand}/{guide.store_id}", set()).add(identity)
        for identity in self._events[STORES.name]:
            self._homeless.pop(identity, None)
        self.roster = build(
            self._events[STORES.name].values(),
            guides.values(),
            self._events[PRESENCE.name].values(),
            capacity_default=self._default.capacity_default,
            zones=zone,
        )
        self._laid_out = True
        self._clear_changes()
        return set(guides)

    def _update(self) -> set[str]:
        """Bring what has changed into the columns; the guides whose room may be another now."""
        stores, guides = self._events[STORES.name], self._events[GUIDES.name]
        roster, touched = self.roster, set(self._changed_guides)
        if not self._changed_stores and not touched:
            return touched
        for identity in self._changed_stores:
            touched |= self._homeless.pop(identity, set())
            row = roster.store_row(*_names(identity))
            if row >= 0:
                brand = identity.partition("/")[0]
                touched.update(
                    f"{brand}/{guide_id}" for guide_id in roster.guide_ids.take(roster.guides_of(row))
                )
        before = {identity: self.cell_of_guide(*_names(identity)) for identity in touched}
        put_stores(
            roster, store_table([stores[one] for one in self._changed_stores if one in stores], roster, zone)
        )
        remove_stores(roster, [_names(one) for one in self._changed_stores if one not in stores])
        remove_guides(roster, [_names(one) for one in touched if one not in guides])
        here = [guides[one] for one in touched if one in guides]
        put_guides(roster, guide_table(here, [self._is_offline(guide) for guide in here], roster))
        for guide in here:
            if f"{guide.brand}/{guide.store_id}" not in stores:
                self._homeless.setdefault(f"{guide.brand}/{guide.store_id}", set()).add(_identity(guide))
        for identity, cell in before.items():
            brand, guide_id = _names(identity)
            if cell and cell != self.cell_of_guide(brand, guide_id):
                self._leave(cell, guide_id)
        if roster.fragmentation > _FRAGMENTATION_MAX:
            self.roster = compact(roster)
        self._clear_changes()
        return touched

    def _leave(self, cell: str, guide_id: str) -> None:
        """Who has left a cell keeps no room there."""
        version, capacity = self._told.get((cell, guide_id), (-1, 0))
        if capacity:
            self._due[cell, guide_id] = (version, 0)
        else:
            self._due.pop((cell, guide_id), None)

    def _turned(self, after_ms: int, now_ms: int) -> list[str]:
        """The guides whose leave has begun or ended."""
        roster = self.roster
        first, count = roster.guide_leave_first, roster.guide_leave_count
        rows = roster.leave.turns(first, count, after_ms, now_ms)
        brands = list(roster.brands)
        names = zip(
            roster.store_brand[roster.guide_store[rows]].tolist(), roster.guide_ids.take(rows), strict=True
        )
        return [f"{brands[brand]}/{guide_id}" for brand, guide_id in names]

    def _compare(self, touched: Sequence[str], now_ms: int) -> None:
        """Note what Redis does not know yet of these guides."""
        roster, guides = self.roster, self._events[GUIDES.name]
        known = [guides[one] for one in touched if one in guides]
        rows = roster.guide_ids.rows([guide.brand for guide in known], [guide.guide_id for guide in known])
        here = np.flatnonzero(rows >= 0)
        capacity = effective_capacity(roster, now_ms, rows[here])
        for number, row, room in zip(here.tolist(), rows[here].tolist(), capacity.tolist(), strict=True):
            guide = known[number]
            place = (roster.cell_of(int(roster.guide_store[row])), guide.guide_id)
            due = (self._version(guide), room)
            if self._told.get(place) == due:
                self._due.pop(place, None)
            else:
                self._due[place] = due

    def _version(self, guide: Guide) -> int:
        """A version of a guide's room.

        It grows with each part, so that workers that know more overrule the others; the guide's comes first
        because it names the store, and the store a guide moves to may have a lower version.
        """
        store = self._events[STORES.name][f"{guide.brand}/{guide.store_id}"]
        here = self._events[PRESENCE.name].get(_identity(guide))
        version: int = guide.version * _PAST_VERSIONS + store.version
        return version * _PAST_VERSIONS + (here.occurred_at_ms if here else 0)

    def _is_offline(self, guide: Guide) -> bool:
        here = self._events[PRESENCE.name].get(_identity(guide))
        return here is not None and here.status == "offline"

    def _clear_changes(self) -> None:
        self._changed_stores.clear()
        self._changed_guides.clear()

    @property
    def cells(self) -> list[str]:
        """The cells of all stores, and of each brand the one for leads that no market can be found for."""
        return list(dict.fromkeys((*self.roster.cells, *(cell_name(b, None) for b in self.roster.brands))))

    def set_cell(self, cell: str, loads: Mapping[str, int], turns: Mapping[str, int]) -> None:
        """Take over open leads and turns of a whole cell; guides not named have none."""
        nothing = dict.fromkeys(self._known.get(cell, ()), (0, 0))
        now = {name: (loads.get(name, 0), turns.get(name, 0)) for name in {*loads, *turns}}
        for name, (load, turn) in (nothing | now).items():
            self.change(cell, name, load, turn)
        self._known[cell] = now

    def change(self, cell: str, name: str, load: int, turn: int) -> None:
        """Take over open leads and turn of a guide of a cell; or the cell's clock, as the turn of ``|``."""
        self._known.setdefault(cell, {})[name] = (load, turn)
        roster = self.roster
        if name == CLOCK:
            if (number := roster.cell_row(cell)) >= 0:
                roster.cell_clock[number] = turn
            return
        row = roster.guide_row(cell.partition("/")[0], name)
        # what one who moved still holds takes no room in the new cell
        if row >= 0 and roster.cell_of(int(roster.guide_store[row])) == cell:
            roster.guide_load[row], roster.guide_turn[row] = load, turn

    def count(self, batch: Sequence[Request], answers: Sequence[Answer]) -> None:
        """Count what the claims of a batch have taken, until Redis tells (``forget_guesses``)."""
        roster = self.roster
        taken = [
            (request.event.brand, answer.guide_id, answer.turn_start)
            for request, answer in zip(batch, answers, strict=True)
            if answer.result == "ok" and answer.guide_id is not None
        ]
        found = roster.guide_ids.rows([brand for brand, *_ in taken], [guide_id for _, guide_id, _ in taken])
        here = found >= 0
        rows, starts = found[here], np.array([start for *_, start in taken], np.int64)[here]
        np.add.at(roster.guide_load, rows, 1)
        np.maximum.at(roster.guide_turn, rows, starts + roster.guide_step[rows])
        np.maximum.at(roster.cell_clock, roster.store_cell[roster.guide_store[rows]], starts)
        self._guessed.update(rows.tolist())

    def forget_guesses(self) -> None:
        """Go back to what Redis has told: it tells of these claims as well, or has told already."""
        roster = self.roster
        rows = np.array(sorted(self._guessed), np.int64)
        for row, guide_id in zip(rows.tolist(), roster.guide_ids.take(rows), strict=True):
            number = int(roster.store_cell[roster.guide_store[row]])
            known = self._known.get(roster.cells[number], {})
            roster.guide_load[row], roster.guide_turn[row] = known.get(guide_id, (0, 0))
            roster.cell_clock[number] = known.get(CLOCK, (0, 0))[1]
        self._guessed.clear()

    def checksum(self) -> int:
        """A number of 48 bits that is the same for two workers whose columns are the same."""
        roster = self.roster
        rows = roster.guide_rows()
        mixed = roster.guide_hash[rows].astype(np.uint64)
        columns = (roster.guide_load, roster.guide_turn, roster.guide_capacity)
        for column in (*columns, roster.guide_active, roster.guide_present):
            mixed = (mixed ^ column[rows].astype(np.uint64)) * np.uint64(0x100000001B3)  # as FNV-1a, by row
        return int(mixed.sum() % np.uint64(2**48))

    def over_capacity(self) -> int:
        """Open leads beyond what their guides may hold, which only a failover or a lower capacity brings."""
        roster, rows = self.roster, self.roster.guide_rows()
        return int(np.maximum(roster.guide_load[rows] - roster.guide_capacity[rows], 0).sum())

    def _enter_known(self, identities: Iterable[str]) -> None:
        """Enter what Redis has told of some guides, who may be in another cell now, and of new cells."""
        for identity in identities:
            brand, guide_id = _names(identity)
            cell = self.cell_of_guide(brand, guide_id)
            if (held := self._known.get(cell, {}).get(guide_id)) is not None:
                self.change(cell, guide_id, *held)
        if len(self.roster.cells) != self._cell_count:
            self._cell_count = len(self.roster.cells)
            for cell, known in self._known.items():
                if CLOCK in known:
                    self.change(cell, CLOCK, *known[CLOCK])

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


def _names(identity: str) -> tuple[str, str]:
    brand, _, name = identity.partition("/")
    return brand, name


def _identity(event: Store | Guide | Presence | Member) -> str:
    if isinstance(event, Store):
        return f"{event.brand}/{event.store_id}"
    if isinstance(event, Member):
        return f"{event.brand}/{event.member_id}"
    return f"{event.brand}/{event.guide_id}"


def _age(event: Store | Guide | Presence | Member) -> int:
    return event.occurred_at_ms if isinstance(event, Presence) else event.version

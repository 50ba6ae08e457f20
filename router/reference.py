"""Stores, guides, presence, members' tiers and policies, in full in every worker.

They are read without a consumer group, to the end before the worker is ready, then tailed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from router.rules.booking import slots_of, trouble, understand_version
from router.rules.charge import Charge, Standing, charges
from router.rules.intake import Refusal, Request
from router.rules.meeting import marked
from router.rules.money.evidence import Party, apart, holder
from router.rules.ownership import DAY_MS
from router.rules.responding import Past
from router.rules.widening import Map, survey
from router.timezones import zone
from router.traffic import Traffic
from scoring.build import build, compact
from scoring.layout import cell_name, guide_table, store_table
from scoring.policy import Policy, PolicyError, parse
from scoring.roster import Roster, effective_capacity
from scoring.update import put_guides, put_stores, remove_guides, remove_stores
from topics.catalog import GUIDES, MEMBERS, POLICIES, PRESENCE, STORES, Topic
from topics.codec import BadEventError, decode
from topics.fields import Tier
from topics.guides import Delegation, Guide, Presence
from topics.members import Member
from topics.policies import Policy as PolicyEvent
from topics.reservations import Reservation
from topics.stores import Store

log = logging.getLogger(__name__)

REFERENCE_TOPICS: tuple[Topic, ...] = (STORES, GUIDES, PRESENCE, MEMBERS, POLICIES)

#: Versions and times have at most 16 digits; set_capacity.lua tells the presence by the last 16.
_PAST_VERSIONS = 10**16

#: Columns are laid out anew when more of their rows than this share were left behind.
_FRAGMENTATION_MAX = 0.25

#: Cell, guide, version, effective capacity.
CapacityRow = tuple[str, str, int, int]


class Reference:
    """The newest value of everything, and the columns made of it."""

    def __init__(self, refused: Callable[[str, str], None]) -> None:
        self._refused = refused
        self._events: dict[str, dict[str, Any]] = {topic.name: {} for topic in REFERENCE_TOPICS}
        self._policies: dict[str, Policy] = {}
        self._default = Policy()
        #: Store to the guides who manage it, and guide to the store that it manages.
        self._managers: dict[str, set[str]] = {}
        self._manages: dict[str, str] = {}
        #: Guides whose members are run by a team at some time.
        self._delegates: dict[str, Delegation] = {}
        self._changed_stores: set[str] = set()
        self._changed_guides: set[str] = set()
        #: Store to the guides who wait for it: they are nobody's as long as nobody knows it.
        self._homeless: dict[str, set[str]] = {}
        #: Cell and guide to version and capacity: what Redis knows, and what it has to be told.
        self._told: dict[tuple[str, str], tuple[int, int]] = {}
        self._due: dict[tuple[str, str], tuple[int, int]] = {}
        self.traffic = Traffic(lambda: self.roster)
        self._now_ms: int | None = None
        self._laid_out = False
        self._refreshed = 0
        self._maps: dict[str, Map] = {}
        self._kept: list[str] = []
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
        if topic is GUIDES:
            guide = self._events[GUIDES.name].get(identity)
            self._delegates.pop(identity, None)
            if guide is not None and guide.delegate is not None:
                self._delegates[identity] = guide.delegate
            self._managers.get(self._manages.pop(identity, ""), set()).discard(identity.partition("/")[2])
            if guide is not None and guide.role == "manager" and guide.active:
                store = self._manages[identity] = f"{guide.brand}/{guide.store_id}"
                self._managers.setdefault(store, set()).add(guide.guide_id)

    def refresh(self, now_ms: int) -> list[CapacityRow]:
        """Bring the columns up to what has changed; what Redis has to be told comes back.

        Call ``told`` with it once Redis knows.
        """
        self.traffic.forget_guesses()
        touched = self._update() if self._laid_out else self._rebuild()
        self._refreshed += bool(touched)
        self.traffic.enter(map(_names, touched))
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
        if self._changed_stores:
            self._maps.clear()
        self._changed_stores.clear()
        self._changed_guides.clear()

    def map_of(self, brand: str) -> Map:
        """Where the brand's stores are, as far as it goes to look further afield."""
        if brand not in self._maps:
            stores = [store for store in self._events[STORES.name].values() if store.brand == brand]
            self._maps[brand] = survey((store, cell_name(brand, store.market)) for store in stores)
        return self._maps[brand]

    def marked(self, requests: Sequence[Request]) -> list[Request]:
        """Mark the leads of those who are no customers, as their brand's policy has it."""
        members, guides = self._events[MEMBERS.name], self._events[GUIDES.name]
        out: list[Request] = []
        for request in requests:
            identity = f"{request.event.brand}/{request.event.member_id}"
            member, works = members.get(identity), identity in guides
            shared = request.event.source is not None and request.event.source.sharer_id is not None
            if works or shared or (member is not None and member.flags):
                policy = self.policy(request.event.brand)
                flags = () if member is None else member.flags
                out.append(marked(request, flags, policy, works=works))
            else:
                out.append(request)
        return out

    def book(
        self, requests: Sequence[Request], pasts: Sequence[Past], now_ms: int
    ) -> tuple[list[Request], list[Refusal]]:
        """Give reservations their slots and find out what each version is, or why it cannot be followed."""
        out: list[Request] = []
        refusals: list[Refusal] = []
        for request, past in zip(requests, pasts, strict=True):
            event, policy = request.event, self.policy(request.event.brand)
            if not isinstance(event, Reservation):
                continue
            store = self._events[STORES.name].get(f"{event.brand}/{event.store_id}")
            slots = slots_of(event, store)
            # who has left already goes on, whatever has been edited since
            detail = None if past.to is not None else trouble(event, len(slots), policy)
            if detail is not None:
                refusals.append(Refusal(request.record, "unsupported", detail))
                continue
            asked = replace(request, slots=" ".join(slots) or "-")
            there = partial(self._is_there, event.brand)
            cell = None if store is None else cell_name(event.brand, store.market)
            out.append(understand_version(asked, past, now_ms, policy, cell, there))
        return out, refusals

    def _is_there(self, brand: str, guide_id: str, at_ms: int) -> bool:
        """Whether a guide works then: on shift, not on leave."""
        roster = self.roster
        rows = np.array([roster.guide_row(brand, guide_id)])
        if rows[0] < 0 or not roster.guide_active[rows[0]]:
            return False
        return bool(roster.on_shift(at_ms, rows)[0] and not roster.on_leave(at_ms, rows)[0])

    @property
    def cells(self) -> list[str]:
        """The cells of all stores, and of each brand the one for leads that no market can be found for.

        And those that are kept: of before the stores were what they are.
        """
        of_brands = (cell_name(brand, None) for brand in self.roster.brands)
        return list(dict.fromkeys((*self.roster.cells, *of_brands, *self._kept)))

    def keep(self, cells: Iterable[str]) -> None:
        """Look after these cells, too: a store may have left a market, and its leads are still there."""
        self._kept = sorted({*self._kept, *cells})

    def changes(self, cell: str) -> int:
        """Grows with everything by which a lead that waits in a cell may find somebody."""
        return self._refreshed + self.traffic.changes[cell]

    def by_policy(self, requests: Sequence[Request]) -> list[tuple[Policy, list[Request]]]:
        """Group requests by the policy that rules them and the time of their visit; most often it is one."""
        groups: dict[tuple[int, int | None], tuple[Policy, list[Request]]] = {}
        for request in requests:
            policy = self.policy(request.event.brand)
            groups.setdefault((id(policy), request.visit_ms), (policy, []))[1].append(request)
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

    def policy(self, brand: str) -> Policy:
        """The policy that rules a brand."""
        return self._policies.get(brand, self._default)

    def in_charge(self, brands: Sequence[str], standings: Sequence[Standing], now_ms: int) -> list[Charge]:
        """Who is in charge of members of these brands now, as the roster knows the guides."""
        loan_max_ms = {brand: self.policy(brand).loan_days_max * DAY_MS for brand in {*brands}}
        return charges(brands, standings, now_ms, loan_max_ms, self._delegates, self.roster)

    def contact_cap(self, brand: str, member_id: str) -> int:
        """How often a day a member is contacted at most."""
        member = self._events[MEMBERS.name].get(f"{brand}/{member_id}")
        cap = None if member is None else member.contact_cap
        return self.policy(brand).contact_cap_per_day if cap is None else int(cap)

    def flags(self, brand: str, member_id: str) -> tuple[str, ...]:
        """What is known of a member who is no customer."""
        member = self._events[MEMBERS.name].get(f"{brand}/{member_id}")
        return () if member is None else tuple(member.flags)

    def same_member(self, brand: str, one: str, other: str) -> bool:
        """Whether two ids are of one member, as the group has merged them."""
        return one == other or bool(self._names(brand, one) & self._names(brand, other))

    def _names(self, brand: str, member_id: str) -> set[str]:
        """The member's id, what it was merged into, what that was merged into, and so on."""
        names: set[str] = set()
        name: str | None = member_id
        while name is not None and name not in names:
            names.add(name)
            member = self._events[MEMBERS.name].get(f"{brand}/{name}")
            name = None if member is None else member.merged_into
        return names

    def delegation(self, brand: str, guide_id: str) -> Delegation | None:
        """The team that runs a guide's members at some time."""
        return self._delegates.get(f"{brand}/{guide_id}")

    def region(self, brand: str, store_id: str) -> str | None:
        """The region of a store."""
        store = self._events[STORES.name].get(f"{brand}/{store_id}")
        return None if store is None else store.region

    def managers(self, brand: str, store_id: str) -> list[str]:
        """The guides who manage a store."""
        return sorted(self._managers.get(f"{brand}/{store_id}", ()))

    def party(self, brand: str, name: str, *, team: bool = False) -> Party:
        """Who somebody is now: a guide or a team of the roster, a store, or else a member."""
        guide = self._events[GUIDES.name].get(f"{brand}/{name}")
        if guide is not None:
            store_id, region = guide.store_id, self.region(brand, guide.store_id)
            kind: Literal["guide", "team"] = "team" if team or guide.role == "hq" else "guide"
            return Party(kind=kind, store_id=store_id, region=region)
        if team:
            return Party(kind="team")
        if f"{brand}/{name}" in self._events[STORES.name]:
            return Party(kind="store", store_id=name, region=self.region(brand, name))
        return Party(kind="member")

    def parties(self, brand: str, role: str, name: str) -> dict[str, Party]:
        """Who the party of a role is now; and who else bears its id, if its role has ids of its own."""
        known, kind = self.party(brand, name), holder(role)
        if kind == "guide" or known.kind in {kind, "member"}:
            return {name: known}
        place = {"store_id": name, "region": self.region(brand, name)} if kind == "store" else {}
        return {name: known, apart(role, name): Party(kind=kind, **place)}

    def works(self, brand: str, guide_id: str) -> bool:
        """Whether a guide is known and active, and the store is."""
        row = self.roster.guide_row(brand, guide_id)
        return row >= 0 and bool(self.roster.guide_active[row])

    def with_limited_books(self) -> list[tuple[str, str]]:
        """Brand and id of the guides whose book of members has a limit."""
        guides: Iterable[Guide] = self._events[GUIDES.name].values()
        return [(guide.brand, guide.guide_id) for guide in guides if guide.book_max is not None]

    def enter_books(self, guides: Sequence[tuple[str, str]], sizes: Sequence[int]) -> None:
        """Enter how many members are bound to guides."""
        rows = self.roster.guide_ids.rows([brand for brand, _ in guides], [name for _, name in guides])
        self.roster.guide_book[rows[rows >= 0]] = np.array(sizes, np.int32)[rows >= 0]

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

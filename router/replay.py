"""What Redis should hold, worked out from the log alone: the one answer behind ``rebuild`` and ``verify``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from router.ledger.replay import BOOK_TOPICS, BookReplay, books_agree, may_be_missing
from router.reference import REFERENCE_TOPICS, Reference
from router.rules.intake import Record, decoded
from router.rules.money.deeds import Deed, of_assignment, of_touch
from router.rules.ownership import Contract, fact_of, follow
from router.rules.restoring import Restored, cell_of, restored
from router.rules.touches import Touched, remind_ms, touched
from router.state import keys
from router.state.members import (
    CONTACTS_MAX,
    GUIDES_MAX,
    NEWEST,
    ORIGINS_MAX,
    TRACK_MAX,
    Member,
    fields_of,
)
from router.traffic import CLOCK
from topics.assignments import LIVE_STATES, Assignment, Turn
from topics.bindings import Binding
from topics.catalog import ASSIGNMENTS, BINDINGS, TOUCHES, Topic
from topics.codec import BadEventError, decode
from topics.touches import Touch

#: What has to be read, one group after the other: stores and guides before what refers to them.
REPLAY_TOPICS: tuple[tuple[Topic, ...], ...] = (
    REFERENCE_TOPICS,
    (BINDINGS, TOUCHES),
    (ASSIGNMENTS, *BOOK_TOPICS),
)

Lead = tuple[str, str, str]
"""Brand, kind, id."""


Content = dict[str, bytes] | dict[str, int] | str
"""A hash, a sorted set with its scores, or a string."""


@dataclass(slots=True)
class Replay:
    """Redis as it should be: feed it the topics in the order of ``REPLAY_TOPICS``, then ``finish``.

    ``contents`` holds every key of the state; ``brands`` whose they are.
    """

    contents: dict[str, Any] = field(default_factory=dict)
    brands: set[str] = field(default_factory=set)
    reference: Reference = field(default_factory=lambda: Reference(_unheard))
    _newest: dict[Lead, Assignment] = field(default_factory=dict)
    _contracts: dict[Member, Contract] = field(default_factory=dict)
    _windows: dict[Member, int] = field(default_factory=dict)
    books: BookReplay = field(init=False)

    def __post_init__(self) -> None:
        """Books go by the policies that were read before them."""
        self.books = BookReplay(lambda brand: self.reference.policy(brand).commission.ledger_utc_offset_h)

    def feed(self, topic: Topic, records: list[Record]) -> None:
        """Take records of one topic, in the order of their partition."""
        if topic in REFERENCE_TOPICS:
            for record in records:
                self.reference.apply(topic, record.key, record.value)
        elif topic is BINDINGS:
            self._bind(records)
        elif topic is TOUCHES:
            for touch, _ in decoded(Touch, records)[0]:
                self._touch(touched(touch))
                self._deeds(of_touch(touch))
        elif topic is ASSIGNMENTS:
            for record in records:
                self._project(record)
        elif topic in BOOK_TOPICS:
            self.books.feed(topic, records)

    def next_group(self) -> None:
        """Everything of the group before is in: make the roster that the next one refers to."""
        self.reference.refresh(0)

    def finish(self, now_ms: int) -> None:
        """Derive what follows from the time and from the newest state of each lead."""
        for cell, guide_id, version, capacity in self.reference.refresh(now_ms):
            self._hash(keys.capacity(cell))[guide_id] = f"{version}:{capacity}".encode()
            self.brands.add(cell.partition("/")[0])
        for cell in self.reference.cells:
            self._hash(keys.capacity(cell))[keys.MARK] = b"%d" % now_ms
        for (brand, member_id), contract in self._contracts.items():
            if contract.owner:
                self._hash(keys.book(brand, contract.owner))[member_id] = 0
        for (brand, member_id), at_ms in self._windows.items():
            # whoever was due before may have been seen to
            if remind_ms(brand, member_id, at_ms, self.reference.policy(brand)) > now_ms:
                self._hash(keys.windows(brand))[member_id] = at_ms
        self.contents |= self.books.finish(now_ms, list(self.reference.roster.brands))
        self.brands |= self.books.brands
        for made in self._newest.values():
            self._decide(made, restored(made, self.reference.roster))

    def fault(self, key: str, held: Content | None) -> str | None:
        """What is wrong with the content that Redis holds; None where it is right."""
        wanted = self.contents[key]
        if not held:
            return None if may_be_missing(key, wanted) else "is missing"
        if isinstance(wanted, str) or isinstance(held, str):
            return None if held == wanted else f"is {held!r}, should be {wanted!r}"
        if keys.is_of_origins(key):  # who was first may be older than the log: nothing in it changes that
            merged: dict[str, Any] = dict(held)
            for entry, at_ms in wanted.items():
                _note_first(merged, entry, at_ms)
            return None if merged == held else f"is {held!r:.200}, should be {merged!r:.200}"
        for name in sorted({*wanted, *held}):
            agree = books_agree if keys.is_of_money(key) else _agree
            if not agree(key, name, wanted.get(name), held.get(name)):
                return f"{name}: is {held.get(name)!r:.200}, should be {wanted.get(name)!r:.200}"
        return None

    def _hash(self, key: str) -> dict[str, Any]:
        made: dict[str, Any] = self.contents.setdefault(key, {})
        return made

    def _bind(self, records: list[Record]) -> None:
        for binding, _ in decoded(Binding, records)[0]:
            member = (binding.brand, binding.member_id)
            made = follow(self._contracts.get(member, Contract()), [fact_of(binding)])
            self._contracts[member] = made
            self.contents[keys.member(*member)] = fields_of(made)
            self.brands.add(binding.brand)

    def _touch(self, one: Touched) -> None:
        member = (one.brand, one.member_id)
        self.brands.add(one.brand)
        _note(self._hash(keys.track(*member)), one.entry, one.at_ms, TRACK_MAX)
        if one.contact:
            _note(self._hash(keys.contacts(*member)), one.contact, one.at_ms, CONTACTS_MAX)
        acts = self._hash(keys.acts(*member)) if one.actor or one.came_in else {}
        if one.came_in:
            _note(acts, keys.ITSELF, one.at_ms, len(acts) + 1)
            self._windows[member] = acts[keys.ITSELF]
        if one.actor:
            _note(acts, one.actor, one.at_ms, GUIDES_MAX + (keys.ITSELF in acts), keys.ITSELF)

    def _deeds(self, deeds: Iterable[Deed]) -> None:
        for deed in deeds:
            if deed.track == "origin":
                _note_first(self._hash(keys.origins(deed.brand, deed.member_id)), deed.entry, deed.at_ms)
                continue
            key_of, most = NEWEST[deed.track]
            _note(self._hash(key_of(deed.brand, deed.member_id)), deed.entry, deed.at_ms, most)

    def _project(self, record: Record) -> None:
        try:
            made = decode(Assignment, record.value)
        except BadEventError:
            return
        value = record.value or b""
        journey = self._hash(keys.journey(made.brand, made.member_id, made.kind, made.lead_id))
        if str(made.seq) in journey:
            return  # the first record of a seq wins
        if made.turn is not None and made.guide_id is not None:
            self._turn(made, made.guide_id, made.turn)
        journey[str(made.seq)] = b"%d|%b" % (record.offset, value)
        if made.guide_id is not None:
            self._card(made, record.offset, value)
        self._deeds(of_assignment(made))
        identity = (made.brand, made.kind, made.lead_id)
        self.brands.add(made.brand)
        self._step(restored(made, self.reference.roster))
        if identity not in self._newest or made.seq > self._newest[identity].seq:
            self._newest[identity] = made

    def _card(self, made: Assignment, offset: int, value: bytes) -> None:
        inbox = self._hash(keys.inbox(made.brand, made.guide_id or ""))
        lead = f"{made.kind}|{made.lead_id}"
        if made.seq > int(inbox.get(lead, b"0|").partition(b"|")[0]):
            inbox[lead] = b"%d|%d|%b" % (made.seq, offset, value if made.state in LIVE_STATES else b"")

    def _step(self, lead: Restored) -> None:
        place = keys.lead_cell(lead.brand, lead.kind, lead.lead_id)
        before = self.contents.get(place, lead.cell)
        self.contents[place] = lead.cell
        held = self._hash(keys.lead(lead.cell, lead.kind, lead.lead_id))
        if lead.moved and before != lead.cell:
            held.clear()  # it may have been here before
            left = self._hash(keys.lead(before, lead.kind, lead.lead_id))
            held |= left
            left.clear()
            left |= {"q": held.get("q", b"0"), "to": lead.cell.encode()}
        held |= {str(lead.seq): lead.answer.encode(), "q": b"%d" % max(lead.seq, int(held.get("q", b"0")))}
        if (version := re.search(r" reservation/(\d+)\|", lead.answer)) is not None:
            held["v"] = b"%d" % max(int(version[1]), int(held.get("v", b"0")))
        if lead.digest:
            held[f"d{version[1] if version is not None else ''}"] = lead.digest.encode()
        if lead.slots != "" and (lead.slots != "-" or "h" in held):
            held["h"] = lead.slots.removeprefix("-").encode()
        if lead.record:
            guide_id, _, record = lead.record.partition(" ")
            records = self._hash(keys.records(lead.cell))
            if _recorded_ms(records.get(guide_id)) < _recorded_ms(record.encode()):
                records[guide_id] = record.encode()

    def _turn(self, made: Assignment, guide_id: str, turn: Turn) -> None:
        held = self._hash(keys.turns(cell_of(made, self.reference.roster)))
        for name, number in ((guide_id, turn.end), (CLOCK, turn.start)):
            held[name] = b"%d" % max(number, int(held.get(name, b"0")))

    def _decide(self, made: Assignment, lead: Restored) -> None:
        """What hangs on the newest step of a lead."""
        whom = keys.whom(lead.kind, lead.lead_id, lead.member_id)
        if lead.guide_id:
            self._hash(keys.open_attempts(lead.cell))[f"{lead.guide_id}|{whom}"] = 0
        elif made.state == "waiting":
            choice = lead.answer.rpartition(" ")[2]
            self._hash(keys.waiting(lead.cell))[f"{choice}|{whom}"] = 0
        slots = self._hash(keys.lead(lead.cell, lead.kind, lead.lead_id)).get("h", b"").decode()
        for slot in slots.split():
            self._hash(keys.slots(lead.cell))[f"{slot}|{whom}"] = 0
        if lead.ends_ms:
            self._hash(keys.due(lead.cell))[whom] = int(lead.ends_ms)


def _recorded_ms(record: bytes | None) -> int:
    return int(record.rpartition(b",")[2]) if record else -1


def _note(scores: dict[str, int], name: str, at_ms: int, most: int, kept: str = "") -> None:
    """Note the latest time of a name; the ``most`` latest are kept, and one name in any case."""
    scores[name] = max(at_ms, scores.get(name, 0))
    if len(scores) > most:
        del scores[min((name for name in scores if name != kept), key=lambda name: (scores[name], name))]


def _note_first(scores: dict[str, int], entry: str, at_ms: int) -> None:
    """Note when a party brought somebody: of each the first time is kept, and the earliest parties."""
    scores[entry] = min(at_ms, scores.get(entry, at_ms))
    seen: set[str] = set()
    for name in sorted(scores, key=lambda name: (scores[name], name)):
        party = name.split("|", 2)[2]
        if party in seen or len(seen) == ORIGINS_MAX:
            del scores[name]
        seen.add(party)


def _agree(key: str, name: str, wanted: Any, held: Any) -> bool:  # noqa: ANN401 - bytes or a score, or None
    if keys.is_of_touches(key) or key.endswith("}:windows"):
        # Redis may hold what the log has forgotten, and a window until its member was seen to
        return held is not None and (wanted is None or bool(held == wanted))
    if keys.is_turns(key):
        return held is not None and int(held) >= int(wanted or 0)  # the log may have forgotten the last one
    if keys.is_records(key) or ("}:journey:" in key and name.startswith(keys.RESPONSE)):
        # a pause ends without a record when the guide comes back, and the log may have forgotten a record;
        # what became of a response is told to whoever sent it, for a while
        return name.startswith(keys.RESPONSE) or _recorded_ms(held) >= _recorded_ms(wanted)
    if keys.is_capacity(key) and name in {keys.MARK, keys.TOKEN}:
        return held is not None or name == keys.TOKEN  # what they say is Redis' own business
    if keys.is_capacity(key) and wanted is None:
        return bool(held.endswith(b":0"))  # a guide who has left the cell keeps a zero there
    return bool(wanted == held)


def _unheard(topic: str, reason: str) -> None:
    """Refused reference records are the workers' business."""

"""Every count and every promise of a run, recomputed from its raw records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from heapq import nsmallest
from sys import intern
from typing import Any

import orjson

from router.audit.book import Book
from router.audit.report import Report
from router.audit.roster import Roster
from router.audit.slots import Slots
from router.audit.story import Stories
from router.audit.track import CLOSED, GIVEN_BACK, LIVE, SEQ_MAX, Track, step_of

#: The topics that ask for an answer.
INPUTS = ("leads", "reservations")
#: The topics that the audit reads.
TOPICS = ("stores", "guides", *INPUTS, "assignments", "orders", "commissions", "dead-letters")

#: What is counted of the steps of all leads.
COUNTED = ("accepted", "reoffered", "reminded", "expired")
_EXAMPLES_MAX = 3
#: So much later than it should have, by the time of the newest record, a state may end.
_OVERDUE_MS = 60_000

Position = tuple[str, int, int]


class Audit:
    """Feed it raw records, each partition in order and the partitions in any order; ask for the report.

    An input is answered by an assignments record with its (brand, kind, id), or by a dead letter whose
    headers ``topic``, ``partition`` and ``offset`` name it. Of the assignments records with one (id, seq) the
    first counts.
    """

    def __init__(self) -> None:
        self._roster = Roster()
        self._slots = Slots()
        self._stories = Stories()
        self._book = Book()
        self._tracks: dict[str, Track] = {}
        self._offsets: dict[str, dict[int, int]] = {topic: {} for topic in TOPICS}
        self._in: Counter[str] = Counter()
        self._states: Counter[str] = Counter()
        self._latency_ms: Counter[int] = Counter()
        self._duplicates = self._first_in_ms = self._last_answer_ms = self._newest_ms = 0
        self._open: dict[Position, str | None] = {}
        self._open_of: dict[str, list[Position]] = {}
        self._dead: set[Position] = set()
        self._changes: set[Position] = set()
        self._doubled: set[str] = set()
        self._disordered: set[str] = set()
        self._unasked: set[str] = set()
        self._truncated: set[str] = set()
        self._unreadable: list[str] = []
        self._unproven: list[tuple[str, str, str]] = []  # id, store, guide of offers not yet seen to be right

    def feed(  # noqa: PLR0913, PLR0917 - a record as it comes from the broker, in the broker's order
        self,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None,  # noqa: ARG002 - part of a record; the value says who it is about
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        timestamp_ms: int,
    ) -> None:
        """Take one record of one of ``TOPICS`` (named without prefix); what was read before is skipped."""
        read = self._offsets[topic]
        if offset < read.get(partition, 0):
            return
        read[partition] = offset + 1
        self._newest_ms = max(self._newest_ms, timestamp_ms)
        if topic == "dead-letters":
            self._feed_dead_letter(headers, timestamp_ms)
            return
        event, position = _object(value), (topic, partition, offset)
        if topic in INPUTS:
            self._feed_input(topic.removesuffix("s"), event, position, timestamp_ms)
        elif topic == "assignments":
            self._feed_assignment(event, position, timestamp_ms)
        elif topic == "orders":
            self._book.feed_order(event, position)
        elif topic == "commissions":
            self._book.feed_posting(event, value or b"", _place(position))
        elif topic == "stores":
            self._roster.feed_store(event)
            self._slots.feed_store(event)
        else:
            self._roster.feed_guide(event)

    def low_watermark(self, topic: str, partition: int, offset: int) -> None:
        """Note the oldest offset that the broker still has; above what was read, records were missed."""
        if offset > self._offsets[topic].get(partition, 0):
            self._truncated.add(f"{topic}[{partition}]")

    @property
    def busiest_guide(self) -> str | None:
        """``brand/guide_id`` of the guide with the most offers."""
        return self._roster.busiest()

    def next_offset(self, topic: str, partition: int) -> int:
        """The first offset that was not read yet."""
        return self._offsets[topic].get(partition, 0)

    @property
    def answered(self) -> int:
        """Inputs with their answer."""
        return self._in.total() - len(self._open)

    @property
    def unanswered(self) -> int:
        """Inputs without an answer so far."""
        return len(self._open)

    @property
    def orders_read(self) -> int:
        """Records of ``orders`` so far, repeated ones too."""
        return self._book.records

    @property
    def unposted(self) -> int:
        """Sales and refunds without their posting so far."""
        return self._book.open

    @property
    def examples(self) -> tuple[str, str] | None:
        """``brand/order_id`` with the most roles, ``brand/guide_id`` who earns the most; or None."""
        return self._book.example()

    def vesting(self, by_ms: int) -> int:
        """How many orders should have vested by a time and have not."""
        return self._book.vesting(by_ms)

    def due(self, by_ms: int) -> int:
        """How many leads are in a state that ends before a time."""
        return len(self._stories.due(by_ms))

    def report(self) -> Report:
        """The verdict on everything fed so far; may be asked for at any time."""
        self._unproven = [offer for offer in self._unproven if not self._proven(*offer)]
        unknown = {who for who, _, guide in self._unproven if not self._roster.knows(guide)}
        crossed = {
            who
            for who, store, guide in self._unproven
            if not self._roster.fits(self._tracks[who].zone, store, guide)
        }
        over = self._roster.over_capacity()
        holes = {who for who, track in self._tracks.items() if track.has_hole}
        disordered = self._disordered | self._stories.illegal | holes
        adrift = {who for who, track in self._tracks.items() if track.state in GIVEN_BACK}
        adrift.update(self._stories.due(self._newest_ms - _OVERDUE_MS))
        oversold = self._slots.oversold()
        lost = [f"{who or 'unreadable'} at {_place(position)}" for position, who in self._open.items()]
        unposted, off_fen = self._book.unposted(), self._book.differences_fen()
        problems = (
            _problem("lost", "inputs without an answer", lost),
            _problem("double_assigned", "ids assigned twice", self._doubled),
            _problem("over_capacity", "guides with more leads than they have room for", over),
            _problem("wrong_zone", "ids offered across the price zone", crossed - unknown),
            _problem("unknown_guide", "ids offered to nobody in the roster", unknown),
            _problem("out_of_order", "ids whose seq or state skips a step", disordered),
            _problem("unaccounted", "ids that nobody holds, in no queue, or long after their time", adrift),
            _problem("slots_oversold", "slots sold more often than the store has them", oversold),
            _problem("unasked", "ids assigned without an input", self._unasked),
            _problem("unreadable", "assignments records that are no assignment", self._unreadable),
            _problem("unposted", "sales and refunds that are not in the book", unposted),
            _problem("unbalanced", "postings that do not come to nothing or are none", self._book.unbalanced),
            _problem("ledger_difference", "orders of which the book says something else", off_fen),
            _problem("broker truncated", "partitions lost records before they were read", self._truncated),
        )
        held = sum(self._states[state] for state in LIVE)
        closed = sum(self._states[state] for state in CLOSED)
        span_ms = self._last_answer_ms - self._first_in_ms
        return Report(
            leads_in=self._in["lead"],
            reservations_in=self._in["reservation"],
            duplicates_in=self._duplicates,
            assigned=held,
            waiting=self._states.total() - held - closed,
            closed=closed,
            changes_in=len(self._changes - self._dead),
            **{name: self._stories.counts[name] for name in COUNTED},
            waiting_max_age_s=self._stories.waiting_max_ms(self._newest_ms) // 1000,
            no_shows=self._slots.no_shows(),
            slots_oversold=len(oversold),
            unaccounted=len(adrift),
            dead_lettered=len(self._dead),
            lost=len(lost),
            double_assigned=len(self._doubled),
            over_capacity=len(over),
            wrong_zone=len(crossed - unknown),
            unknown_guide=len(unknown),
            out_of_order=len(disordered),
            unasked=len(self._unasked),
            unreadable=len(self._unreadable),
            **self._book.totals()._asdict(),
            unposted=len(unposted),
            unbalanced=len(self._book.unbalanced),
            ledger_difference_fen=sum(off_fen.values()),
            truncated=len(self._truncated),
            leads_per_s=round(1000 * self.answered / span_ms, 1) if span_ms > 0 else 0.0,
            p50_ms=_percentile(self._latency_ms, 0.50),
            p99_ms=_percentile(self._latency_ms, 0.99),
            offsets={
                topic: {str(partition): offset for partition, offset in sorted(read.items())}
                for topic, read in self._offsets.items()
            },
            problems=tuple(problem for problem in problems if problem),
        )

    def _feed_input(self, kind: str, event: dict[str, Any], position: Position, timestamp_ms: int) -> None:
        self._in[kind] += 1
        self._first_in_ms = min(self._first_in_ms or timestamp_ms, timestamp_ms)
        rows = kind == "lead" and event.get("list_id") is not None
        who = _identity(event, "list" if rows else kind, f"{kind}_id")
        track = None
        if who is not None:
            track = self._tracks.setdefault(who, Track())
            version = event.get("version") if kind == "reservation" else 0
            version = version if isinstance(version, int) else 0
            if track.version is None:
                zone = event.get("price_zone")
                track.version, track.zone = version, intern(zone) if isinstance(zone, str) else None
                self._unasked.discard(who)
                if type(occurred_at_ms := event.get("occurred_at_ms")) is int:
                    self._time(track, -occurred_at_ms)
            elif version > track.version:
                track.version = version
                self._changes.add(position)
            else:
                self._duplicates += 1
            if kind == "reservation":
                self._slots.feed_booking(who, event)
        if position in self._dead or (track and track.steps):
            return
        self._open[position] = who
        if who is not None:
            self._open_of.setdefault(who, []).append(position)

    def _feed_dead_letter(self, headers: Sequence[tuple[str, bytes]], timestamp_ms: int) -> None:
        named = {name: value.decode(errors="replace") for name, value in headers}
        topic, partition, offset = (named.get(name, "") for name in ("topic", "partition", "offset"))
        # The header may hold the full name; the prefix is not ours to know.
        topic = next((known for known in TOPICS if topic.endswith(known)), topic)
        if not (partition.isdecimal() and offset.isdecimal()):
            return
        position = (topic, int(partition), int(offset))
        if topic == "orders":
            self._book.refuse(position)
            return
        if position not in self._dead:
            self._dead.add(position)
            self._last_answer_ms = max(self._last_answer_ms, timestamp_ms)
        who = self._open.pop(position, None)
        if who is not None:
            self._open_of[who].remove(position)

    def _feed_assignment(self, event: dict[str, Any], position: Position, timestamp_ms: int) -> None:
        who = _identity(event, str(event.get("kind")), "lead_id")
        seq, step = event.get("seq"), step_of(event)
        if who is None or type(seq) is not int or not 1 <= seq <= SEQ_MAX or step is None:
            self._unreadable.append(_place(position))
            return
        track = self._tracks.setdefault(who, Track())
        if not track.steps:
            self._first_answer(track, who, timestamp_ms)
        first = track.seen(seq)
        if first is not None:
            if first.digest != step.digest:
                self._doubled.add(who)
            return
        newest = track.note(seq, step)
        self._stories.feed(who, track, seq, event)
        if event.get("kind") == "reservation":
            self._slots.feed_step(who, seq, event)
        if newest:
            self._stories.now(who, seq, event)
            # what comes before may still be on its way from another topic
            self._move(track, who, event, step.at_ms, after=seq == 1 or track.seen(seq - 1) is not None)

    def _first_answer(self, track: Track, who: str, timestamp_ms: int) -> None:
        self._last_answer_ms = max(self._last_answer_ms, timestamp_ms)
        self._time(track, timestamp_ms)
        if track.version is None:
            self._unasked.add(who)
        for position in self._open_of.pop(who, ()):
            del self._open[position]

    def _move(self, track: Track, who: str, event: dict[str, Any], at_ms: int, *, after: bool) -> None:
        """Follow one lead into its next state, and its guides with it; ``after`` the one before."""
        state, brand = intern(str(event.get("state"))), event["brand"]
        if track.state is not None:
            self._states[track.state] -= 1
        self._states[state] += 1
        track.state = state
        guide = intern(f"{brand}/{event.get('guide_id')}") if state in LIVE else None
        if guide == track.guide:
            return
        if guide is not None:
            if track.guide is not None and after:
                self._doubled.add(who)
            elif state != "offered" and after:
                self._disordered.add(who)
            self._roster.take(guide, at_ms)
            offer = (who, f"{brand}/{event.get('store_id')}", guide)
            if not self._proven(*offer):
                self._unproven.append(offer)
        if track.guide is not None:
            self._roster.release(track.guide, at_ms)
        track.guide = guide

    def _proven(self, who: str, store: str, guide: str) -> bool:
        asked = who not in self._unasked  # else the price zone is not known yet
        return asked and self._roster.knows(guide) and self._roster.fits(self._tracks[who].zone, store, guide)

    def _time(self, track: Track, signed_ms: int) -> None:
        """Add the time of the answer, and take away the time of the input; count once both are known."""
        if track.delay_ms is None:
            track.delay_ms = signed_ms
        else:
            self._latency_ms[max(0, track.delay_ms + signed_ms)] += 1


def _object(value: bytes | None) -> dict[str, Any]:
    """The JSON object in a value; an empty one for everything else."""
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def _identity(event: dict[str, Any], kind: str, id_field: str) -> str | None:
    brand, name = event.get("brand"), event.get(id_field)
    return f"{brand}/{kind}/{name}" if isinstance(brand, str) and isinstance(name, str) else None


def _place(position: Position) -> str:
    topic, partition, offset = position
    return f"{topic}[{partition}]@{offset}"


def _problem(name: str, what: str, who: Collection[str]) -> str | None:
    if not who:
        return None
    return f"{name}: {len(who)} {what}, such as {', '.join(nsmallest(_EXAMPLES_MAX, who))}"


def _percentile(counts: Counter[int], share: float) -> int:
    """The smallest value that at least ``share`` of all values do not exceed; 0 when there are none."""
    wanted = share * counts.total()
    for value in sorted(counts):
        wanted -= counts[value]
        if wanted <= 0:
            return value
    return 0

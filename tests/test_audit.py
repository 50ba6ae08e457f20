"""The audit is green on a clean run, and each planted fault turns it red by its own name."""

from __future__ import annotations

import ast
from collections import defaultdict
from itertools import count
from pathlib import Path
from random import Random
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import router.audit
from router.audit import Audit
from router.audit.slots import Slots

T0 = 1_790_000_000_000
HOUR_MS = 3_600_000
TEN_MS = (T0 // HOUR_MS + 10) * HOUR_MS


class Written(NamedTuple):
    topic: str
    partition: int
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int = T0


def record(topic, **fields):
    return Written(topic, 0, orjson.dumps({"brand": "b", **fields}))


def store(store_id, kind="full_price"):
    slots = {"slot_minutes": 60, "slots": {"fit": 1}}
    return record("stores", store_id=store_id, kind=kind, active=True, **slots)


def guide(guide_id, capacity=None, *, active=True, **fields):
    return record("guides", guide_id=guide_id, capacity=capacity, active=active, **fields)


def lead(lead_id, zone="full", **fields):
    return record("leads", lead_id=lead_id, member_id="m", occurred_at_ms=T0, price_zone=zone, **fields)


def reservation(reservation_id, version=1, **fields):
    """A visit of an hour in the only slot that there is at ten."""
    times = {"starts_at_ms": TEN_MS, "ends_at_ms": TEN_MS + HOUR_MS}
    common = {"store_id": "s1", "service": "fit", "status": "booked", "occurred_at_ms": T0}
    return record(
        "reservations", reservation_id=reservation_id, version=version, **{**common, **times, **fields}
    )


def assigned(
    lead_id,
    guide_id="g1",
    store_id="s1",
    *,
    seq=1,
    attempt=1,
    state="offered",
    kind="lead",
    at_ms=T0 + 5,
    **fields,
):
    return record(
        "assignments",
        at_ms=at_ms,
        lead_id=lead_id,
        kind=kind,
        seq=seq,
        attempt=attempt,
        state=state,
        guide_id=guide_id,
        store_id=store_id,
        **fields,
    )._replace(timestamp_ms=at_ms + 7)


def waiting(lead_id, seq=1, attempt=0, **fields):
    return assigned(
        lead_id, None, None, seq=seq, attempt=attempt, state="waiting", **{"queue": "hq", **fields}
    )


def dead_letter(topic, partition, offset):
    headers = (("topic", topic.encode()), ("partition", b"%d" % partition), ("offset", b"%d" % offset))
    return Written("dead-letters", 0, b"?", headers, T0 + 9)


RIGHTS_DAYS = 7


def order(order_id, fen=1000, **fields):
    told = {"status": "paid", "amount_fen": 10 * fen, "commission_fen": fen}
    return record("orders", order_id=order_id, member_id="m", occurred_at_ms=T0, **told | fields)


def refund(order_id, refund_id, fen):
    return order(order_id, fen, status="refunded", refund_id=refund_id)


def posting(posting_id, kind, order_id, *lines, refunds=()):
    """Lines are ``account role party fen``; a base's inputs tell when it vests."""
    lines = [dict(zip(("account", "role", "party", "fen"), each, strict=True)) for each in lines]
    inputs = {"order": {"occurred_at_ms": T0}, "terms": {"rights_days": RIGHTS_DAYS}, "refunds": refunds}
    about = {"posting_id": posting_id, "kind": kind, "order_id": order_id, "inputs": inputs}
    return record("commissions", lines=lines, **about)


def group(fen):
    return ("commission", "group", "group", fen)


def owner(fen, account="pending"):
    return (account, "owner", "g1", fen)


def server(fen, account="pending"):
    return (account, "server", "g2", fen)


#: Sold, shared, vested and given back in two parts, the last before it came to the book; and one that stays.
BOOK = [
    refund("P1", "r2", 400),
    order("P1"),
    order("P1"),
    posting("b1", "base", "P1", group(-1000), owner(1000)),
    posting("o1", "overlay", "P1", owner(-600), server(600)),
    posting("o1", "overlay", "P1", owner(-600), server(600)),
    posting("v1", "vest", "P1", owner(-400), owner(400, "earned"), server(-600), server(600, "earned")),
    refund("P1", "r1", 600),
    refund("P1", "r1", 600),
    posting("r1", "reversal", "P1", group(400), owner(-400, "earned"), refunds=[["r2", 400]]),
    posting("r2", "reversal", "P1", owner(240, "earned"), server(-240, "earned"), refunds=[["r2", 400]]),
    posting("r3", "reversal", "P1", group(600), owner(-240, "earned"), server(-360, "earned"),
            refunds=[["r2", 400], ["r1", 600]]),
    order("P2", 500),
    posting("b2", "base", "P2", group(-500), owner(500)),
    order("P2", 501),  # other content: set aside
    dead_letter("orders", 0, 6),
    refund("P3", "r1", 50),  # waits for its sale
]  # fmt: skip

FIRST, NO_SHOW = {"kind": "reservation/1", "id": "L5"}, {"kind": "reservation/2", "id": "L5"}
ROSTER = [
    store("s1"),
    store("o1", "outlet"),
    guide("g1", 2),
    guide("g2"),
    guide("g3", price_zones=["special"]),
]

#: A run with everything in it that is right: inputs answered, repeated, broken, declined and offered again.
CLEAN = [
    *ROSTER,
    lead("L1"),
    lead("L2"),
    lead("L2"),
    lead("L3", "special"),
    lead("L4"),
    Written("leads", 0, b"not json"),
    Written("leads", 0, None),
    reservation("L1"),
    reservation("L1", version=2),
    reservation("L1"),
    assigned("L1"),
    assigned("L1"),
    assigned("L2"),
    assigned("L2", seq=2, state="accepted", at_ms=T0 + 50),
    assigned("L2", seq=3, state="declined", at_ms=T0 + 60),
    assigned("L2", "g2", seq=4, attempt=2, at_ms=T0 + 61),
    assigned("L2", "g2", seq=5, attempt=2, at_ms=T0 + 62, cause={"kind": "response", "id": "t"}),
    assigned("L3", "g3", "o1"),
    assigned("L3", "g3", "o1", seq=2, state="won", at_ms=T0 + 70),
    waiting("L4"),
    assigned("L1", kind="reservation", cause={"kind": "reservation/1", "id": "L1"}),
    reservation("L5"),
    waiting("L5", kind="reservation", queue="s1/booked", at_ms=T0 + 1, cause=FIRST),
    reservation("L5", version=2, status="no_show"),
    assigned(
        "L5", None, None, seq=2, attempt=0, state="closed", kind="reservation", at_ms=T0 + 3, cause=NO_SHOW
    ),
    dead_letter("leads", 0, 5),
    dead_letter("any-prefix.leads", 0, 6),
    dead_letter("leads", 0, 6),
    *BOOK,
]


def audited(run):
    audit, offsets = Audit(), defaultdict(count)
    for each in run:
        offset = next(offsets[each.topic, each.partition])
        audit.feed(each.topic, each.partition, offset, None, each.value, each.headers, each.timestamp_ms)
    return audit


def report(run):
    return audited(run).report()


def without(run, *absent):
    return [each for each in run if each not in absent]


def test_a_clean_run_is_green_and_its_counts_add_up():
    found = report(CLEAN)
    assert found.ok, found.problems
    assert (found.leads_in, found.reservations_in, found.duplicates_in) == (7, 5, 2)
    assert (found.assigned, found.waiting, found.closed, found.dead_lettered, found.lost) == (3, 1, 2, 2, 0)
    assert (found.accepted, found.reoffered, found.reminded, found.no_shows) == (1, 1, 1, 1)
    assert (found.expired, found.slots_oversold, found.unaccounted) == (0, 0, 0)
    assert (found.p50_ms, found.p99_ms) == (12, 12)
    assert found.leads_per_s == round(12 * 1000 / 12, 1)
    assert found.offsets["leads"] == {"0": 7}
    assert found.offsets["dead-letters"] == {"0": 4}


FAULTS = {
    "lost": [
        ("an input without an answer", [lead("L9")], "b/lead/L9"),
        ("a broken input without a dead letter", [Written("leads", 3, b"{")], "leads[3]@0"),
        (
            "a dead letter that names another offset",
            [Written("leads", 3, b"{"), dead_letter("leads", 3, 1)],
            "leads[3]",
        ),
        (
            "an answer of another kind",
            [reservation("R1"), lead("R1"), assigned("R1", "g2")],
            "b/reservation/R1",
        ),
    ],
    "double_assigned": [
        ("one seq, two guides", [assigned("L1", "g2")], "b/lead/L1"),
        ("one seq, two states", [waiting("L1")], "b/lead/L1"),
        ("a second offer while the first is live", [assigned("L1", "g2", seq=2)], "b/lead/L1"),
    ],
    "over_capacity": [
        ("more than the guide's capacity", [lead("L8"), lead("L9"), assigned("L8"), assigned("L9")], "b/g1"),
        (
            "more than the default capacity",
            [each for n in range(20) for each in (lead(f"N{n}"), assigned(f"N{n}", "g2"))],
            "b/g2",
        ),
    ],
    "wrong_zone": [
        ("a full price lead in an outlet", [lead("L9"), assigned("L9", "g2", "o1")], "b/lead/L9"),
        (
            "a special price lead in a full price store",
            [lead("L9", "special"), assigned("L9", "g2")],
            "b/lead/L9",
        ),
        ("a zone that the guide does not sell", [lead("L9"), assigned("L9", "g3", "s1")], "b/lead/L9"),
    ],
    "unknown_guide": [
        ("a guide who is not in the roster", [lead("L9"), assigned("L9", "g9")], "b/lead/L9"),
        ("a guide who left", [guide("g8", active=False), lead("L9"), assigned("L9", "g8")], "b/lead/L9"),
    ],
    "out_of_order": [
        ("a seq that skips one", [assigned("L1", seq=3, state="accepted")], "b/lead/L1"),
        ("accepted before it was offered", [assigned("L4", "g2", seq=2, state="accepted")], "b/lead/L4"),
        ("the first record is missing", [lead("L9"), assigned("L9", "g2", seq=2)], "b/lead/L9"),
        ("what was won is offered again", [assigned("L3", "g3", "o1", seq=3, attempt=2)], "b/lead/L3"),
        ("an attempt that skips one", [assigned("L4", "g2", seq=2, attempt=2)], "b/lead/L4"),
    ],
    "unaccounted": [
        ("declined, and nothing follows", [assigned("L1", seq=2, state="declined")], "b/lead/L1"),
        (
            "an offer that nobody ends",
            [
                lead("L9"),
                assigned("L9", "g2", respond_by_ms=T0 + 9),
                Written("dead-letters", 0, b"?", (), T0 + 10**6),
            ],
            "b/lead/L9",
        ),
    ],
    "slots_oversold": [
        (
            "two visits at once in one slot",
            [
                reservation("L9"),
                assigned("L9", "g2", kind="reservation", cause={"kind": "reservation/1", "id": "L9"}),
            ],
            "b/s1|fit|",
        ),
    ],
    "unasked": [("an answer to nobody", [assigned("L9", "g2")], "b/lead/L9")],
    "unposted": [
        ("a sale of nothing that is not in the book", [order("P9", 0)], "b/P9"),
        ("a refund of nothing", [refund("P2", "r9", 0)], "b/P2/r9"),
    ],
    "unbalanced": [
        (
            "lines that do not come to nothing",
            [posting("x", "adjust", "x", group(-5), owner(4, "earned"))],
            "b/x",
        ),
        ("an overlay on the group's side", [posting("x", "overlay", "P2", group(0), owner(0))], "b/x"),
        ("the same posting with other content", [posting("b2", "base", "P2", group(-5), owner(5))], "b/b2"),
        ("no posting", [Written("commissions", 0, b"{}")], "commissions[0]@"),
        ("half a fen", [posting("x", "adjust", "x", group(-0.5), owner(0.5))], "commissions[0]@"),
    ],
    "ledger_difference": [
        (
            "a base that is not the commission",
            [order("P9", 10), posting("b9", "base", "P9", group(-9), owner(9))],
            "b/P9",
        ),
        (
            "a base that is posted under two ids",
            [posting("b9", "base", "P2", group(-500), owner(500))],
            "b/P2",
        ),
        (
            "a refund that takes back too little",
            [
                refund("P2", "r9", 9),
                posting("r9", "reversal", "P2", group(8), owner(-8), refunds=[["r9", 9]]),
            ],
            "b/P2",
        ),
        (
            "a full refund that leaves a fen with the wrong party",
            [
                refund("P2", "r9", 500),
                posting(
                    "r9",
                    "reversal",
                    "P2",
                    group(500),
                    owner(-499),
                    server(-1, "receivable"),
                    refunds=[["r9", 500]],
                ),
            ],
            "b/P2",
        ),
        (
            "somebody who owes what is pending",
            [posting("o9", "overlay", "P2", owner(-501), server(501))],
            "b/P2",
        ),
        ("a base of a sale that nobody made", [posting("b9", "base", "P9", group(-9), owner(9))], "b/P9"),
    ],
    "unreadable": [("no assignment", [Written("assignments", 4, b"{}")], "assignments[4]@0")],
}


@pytest.mark.parametrize(
    ("name", "fault", "example"),
    [
        pytest.param(name, fault, example, id=f"{name}: {what}")
        for name in FAULTS
        for what, fault, example in FAULTS[name]
    ],
)
def test_a_planted_fault_turns_the_audit_red_by_its_name(name, fault, example):
    found = report([*CLEAN, *fault])
    (problem,) = found.problems
    assert problem.startswith(f"{name}: 1 ")
    assert example in problem
    assert getattr(found, name, None) == 1 or found.ledger_difference_fen > 0
    assert found.as_dict()["audit"] == "failed"


def test_a_broker_that_dropped_records_before_they_were_read_turns_the_audit_red():
    audit = audited(CLEAN)
    audit.low_watermark("leads", 0, 7)
    assert audit.report().ok
    audit.low_watermark("leads", 0, 8)
    assert audit.report().problems[0].startswith("broker truncated: 1 ")
    assert audit.report().truncated == 1


def test_the_money_of_a_clean_run_adds_up():
    found = report(CLEAN)
    assert (found.orders, found.refunds, found.postings) == (2, 2, 7)
    assert (found.bases, found.overlays, found.parties) == (2, 1, 2)
    assert (found.commission_fen, found.refunded_fen) == (1500, 1000)
    assert (found.pending_fen, found.earned_fen) == (500, 0)
    assert (found.unposted, found.unbalanced, found.ledger_difference_fen) == (0, 0, 0)


def test_what_is_not_in_the_book_yet_and_what_should_have_vested_is_told():
    audit = audited(CLEAN)
    end_ms = T0 + RIGHTS_DAYS * 24 * HOUR_MS
    assert (audit.unposted, audit.vesting(end_ms), audit.vesting(end_ms + 1)) == (0, 0, 1)
    assert audited(BOOK[:3]).unposted == 2  # the sale, and the refund that waited for it
    assert audited(BOOK[:1]).unposted == 0
    assert audit.examples == ("b/P1", "b/g1")


def test_capacity_freed_in_an_overlapping_batch_is_no_fault():
    """A release and the offer that used its room may carry their times in the wrong order."""
    freed = [
        *(assigned("L2", seq=6, attempt=2, state="declined", at_ms=T0 + 500), lead("L9"), lead("L8")),
        *(assigned("L8", "g2"), assigned("L9", "g2", at_ms=T0 + 499)),
        waiting("L2", seq=7, attempt=2, at_ms=T0 + 501),
    ]
    assert report([*without(CLEAN, guide("g2")), guide("g2", 2), *freed]).ok


def partitions_of(run):
    """The records of each partition, with their offsets."""
    parts = defaultdict(list)
    for each in run:
        parts[each.topic, each.partition].append(each)
    return [[(offset, each) for offset, each in enumerate(part)] for part in parts.values()]


RUNS = {"clean": CLEAN, **{name: [*CLEAN, *FAULTS[name][0][1]] for name in FAULTS}}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@given(seed=st.integers())
def test_neither_the_interleaving_of_partitions_nor_records_read_twice_change_the_verdict(run, seed):
    rng = Random(seed)  # noqa: S311 - a shuffle
    left, audit, read = partitions_of(run), Audit(), []
    while left := [part for part in left if part]:
        if read and rng.random() < 0.1:
            offset, each = rng.choice(read)  # as after a reconnect
        else:
            offset, each = rng.choice(left).pop(0)
            read.append((offset, each))
        audit.feed(each.topic, each.partition, offset, None, each.value, each.headers, each.timestamp_ms)
        if rng.random() < 0.1:
            audit.report()  # asking in between changes nothing
    assert audit.report() == report(run)


@given(st.lists(st.sampled_from([each for each in CLEAN if each.topic == "assignments"]), max_size=20))
def test_assignments_published_again_change_nothing(again):
    """After a crash the same records come again, at new offsets."""
    once, more = report(CLEAN), report([*CLEAN, *again])
    assert more.ok
    assert (more.assigned, more.waiting, more.closed) == (once.assigned, once.waiting, once.closed)


def test_the_audit_shares_no_code_with_what_it_judges():
    allowed = {
        "__future__",
        "array",
        "collections",
        "collections.abc",
        "dataclasses",
        "hashlib",
        "heapq",
        "orjson",
        "struct",
    }
    allowed |= {"sys", "typing"}
    for path in Path(router.audit.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert all(name in allowed or name.startswith("router.audit") for name in names), (path, names)


def test_a_row_of_a_list_is_its_own_kind():
    """The same id as a lead and as a row of a list are two; neither's answer is the other's."""
    both = [*ROSTER, lead("L1"), lead("L1", list_id="autumn"), assigned("L1")]
    found = report(both)
    assert (found.leads_in, found.duplicates_in, found.lost) == (2, 0, 1)
    found = report([*both, assigned("L1", "g2", kind="list")])
    assert (found.assigned, found.ok) == (2, True), found.problems


def test_who_comes_without_having_booked_takes_no_slot():
    """The other one holds it until the end; who comes later on their own booking goes on to hold theirs."""
    slots = Slots()
    slots.feed_store(orjson.loads(store("s1").value))
    for who, version, status in (("a", 1, "booked"), ("b", 1, "arrived"), ("a", 2, "arrived")):
        slots.feed_booking(who, orjson.loads(reservation(who, version, status=status).value))
        cause = {"kind": f"reservation/{version}", "id": who}
        slots.feed_step(who, version, {"state": "offered", "cause": cause, "at_ms": T0 + version})
    assert slots.oversold() == []
    slots.feed_booking("c", orjson.loads(reservation("c").value))
    cause = {"kind": "reservation/1", "id": "c"}
    slots.feed_step("c", 1, {"state": "offered", "cause": cause, "at_ms": T0 + 9_000})
    assert len(slots.oversold()) == 1


@pytest.mark.parametrize("told_first", [False, True])
def test_a_change_that_is_set_aside_counts_once(told_first):
    """Whatever is read first of the change and its dead letter: the ends add up to what came in."""
    late, letter = [reservation("L5", version=3, status="changed")], [dead_letter("reservations", 0, 5)]
    before, found = report(CLEAN), report([*letter * told_first, *CLEAN, *late, *letter])
    assert found.ok, found.problems
    assert found.changes_in == before.changes_in
    assert found.dead_lettered == before.dead_lettered + 1

"""What follows from an event, as pure functions: intake, places, offers, records, reasons, dead letters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.outbox import Outbox
from router.rules.actions import TEXTS, WHY, action
from router.rules.dead_letters import dead_letter
from router.rules.intake import Move, Refusal, read
from router.rules.offers import (
    NO_DIGEST,
    Answer,
    assignments,
    cell_of_queue,
    ends_ms,
    made,
    queue_of,
    record_of,
    record_text,
    stored_answer,
)
from router.rules.placing import Home, claim_order, offers, proposals, put_back, rung_of, settle
from router.rules.reasons import Reasons, winners
from scoring.build import build
from scoring.eligibility import ELIGIBILITY
from scoring.explain import explain, reasons
from scoring.fairness import LEAD
from scoring.features import FEATURES
from scoring.layout import cell_name
from scoring.policy import Policy
from scoring.rank import rank
from scoring.requests import columns
from tests.scoring_world import NOW_MS, world, worlds
from topics.assignments import FINAL_STATES, Assignment, Cause, Decision, GuideRecord, Turn
from topics.catalog import ASSIGNMENTS, DEAD_LETTERS, DECISIONS, LEADS, RESERVATIONS
from topics.codec import MESSAGE_BYTES_MAX, decode, encode, partition_of
from topics.guides import Guide
from topics.leads import Lead
from topics.reservations import Reservation
from topics.stores import Store


@dataclass(frozen=True)
class Record:
    value: bytes | None
    offset: int = 0
    topic: str = "t.leads"
    partition: int = 3
    key: bytes | None = b"m"
    timestamp: int = 17


def lead(lead_id="l", **more):
    return Lead(**({"lead_id": lead_id, "member_id": "m", "brand": "b", "occurred_at_ms": 5} | more))


def reservation(reservation_id="r", **more):
    fields = {"version": 1, "member_id": "m", "brand": "b", "occurred_at_ms": 5, "store_id": "s1"}
    fields |= {"starts_at_ms": 10, "ends_at_ms": 20, "status": "booked"} | more
    return Reservation(reservation_id=reservation_id, **fields)


def requests(topic, *events):
    """Events as the intake makes requests of them."""
    records = [Record(encode(event), n, timestamp=event.occurred_at_ms) for n, event in enumerate(events)]
    found, refusals = read(topic, records)
    assert not refusals
    return found


# --- intake ------------------------------------------------------------------------------------------------


def test_intake_keeps_the_order_of_both_lists():
    values = [
        *(encode(lead("a")), b"bad", encode(lead("b")), None, b"x" * (MESSAGE_BYTES_MAX + 1)),
        *(encode(lead("a")), b'{"lead_id":"l"}', encode(lead("c"))[:-1] + b',"brand":"b"}'),
    ]
    records = [Record(value, offset) for offset, value in enumerate(values)]
    found, refusals = read(LEADS, records)
    assert [(request.lead_id, request.record.offset) for request in found] == [("a", 0), ("b", 2), ("a", 5)]
    assert [(refusal.record.offset, refusal.reason) for refusal in refusals] == [
        *((1, "not_json"), (3, "tombstone"), (4, "too_large"), (6, "invalid"), (7, "duplicate_key")),
    ]
    assert "member_id" in refusals[3].detail


def test_f42_the_digest_tells_content_apart_and_nothing_else():
    [one, same, other] = requests(LEADS, lead(), lead(), lead(needs=("suits",)))
    assert one.digest == same.digest != other.digest
    spaced = encode(lead()).replace(b",", b" ,\n") + b" "
    newer = encode(lead())[:-1] + b',"of_next_year":1}'
    found, _ = read(LEADS, [Record(spaced), Record(newer)])
    assert {request.digest for request in found} == {one.digest}


def test_a_later_version_of_a_reservation_is_a_cause_of_its_own():
    found = requests(RESERVATIONS, reservation(), reservation(version=2, starts_at_ms=11))
    assert [request.cause for request in found] == [("reservation/1", "r"), ("reservation/2", "r")]
    assert {(request.kind, request.lead_id) for request in found} == {("reservation", "r")}


# --- where a request is decided ----------------------------------------------------------------------------


def store(store_id, lat, **more):
    fields = {"brand": "b", "version": 1, "lon": 121.0, "kind": "franchise", "active": True} | more
    return Store(store_id=store_id, lat=lat, market=f"m{store_id}", **fields)


@pytest.fixture
def roster():
    """Three stores, each of a market of its own; a guide in each."""
    stores = [store("s1", 31.0), store("s2", 31.05), store("s3", 39.0)]
    guides = [
        Guide(guide_id=f"g{n}", brand="b", version=1, store_id=f"s{n}", active=True, capacity=2)
        for n in (1, 2, 3)
    ]
    return build(stores, guides, [], capacity_default=1)


HERE = {"lat": 31.0, "lon": 121.0}
ORDERS = [("store", "owner", "nearest"), ("nearest", "owner", "store"), ("owner", "nearest", "store")]
ORDERS += [("nearest",), ("owner",), ("store", "nearest", "owner")]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize("named", ["s1", "s2", "s9", None])
@pytest.mark.parametrize("there", [True, False])
def test_the_cell_is_of_the_first_place_in_the_policys_order_that_the_lead_has(roster, order, named, there):
    """Places outside of the order are the last resort; the owner is asked only where he comes first."""
    event = lead(store_id=named, **(HERE if there else {}))
    has = {"store": "b/ms1" if named == "s1" else "b/ms2" if named == "s2" else None}
    has["nearest"] = "b/ms1" if there else None
    policy = Policy(cell_order=order)
    [proposal] = proposals(requests(LEADS, event), columns([event], roster), roster, policy)
    places = [place for place in (*order, "nearest", "store") if place != "owner" and has[place]]
    assert proposal.cell == (has[places[0]] if places else "b/-")
    reach = (*order, "nearest", "store", "owner")
    assert proposal.owner_first == (not places or reach.index("owner") < reach.index(places[0]))


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize(("store_id", "cell"), [("s2", "b/ms2"), ("s9", "b/-")])
def test_a_reservation_is_decided_at_its_store_whoever_the_owner_is(roster, order, store_id, cell):
    event = reservation(store_id=store_id)
    [proposal] = proposals(
        requests(RESERVATIONS, event), columns([event], roster), roster, Policy(cell_order=order)
    )
    assert (proposal.cell, proposal.owner_first) == (cell, False)
    assert (proposal.kind, proposal.lead_id, proposal.brand, proposal.member_id) == (
        *("reservation", "r", "b", "m"),
    )


def test_settling_enters_the_cell_and_what_is_known_of_the_member(roster):
    events = [lead(str(n)) for n in range(4)]
    wanted = columns(events, roster)
    homes = [Home("b/ms2", "g3", 7, "g1", 9), Home("b/ms1", ""), Home("b/gone", "gone"), Home("b/-", "")]
    settle(wanted, requests(LEADS, *events), homes, roster, Policy(), NOW_MS)
    assert wanted.owner_acted_ms.tolist() == [7, -1, -1, -1]
    assert wanted.last_row.tolist() == [roster.guide_row("b", "g1"), -1, -1, -1]
    assert wanted.last_contact_ms.tolist() == [9, -1, -1, -1]
    assert wanted.cell.tolist() == [roster.cell_row("b/ms2"), roster.cell_row("b/ms1"), -1, -1]
    assert wanted.owner_row.tolist() == [roster.guide_row("b", "g3"), -1, -1, -1]


def moved(request, action="declined", **more):
    """What has happened to a request's lead."""
    return replace(request, move=Move(action, ("response", "r"), **more))


def test_who_has_given_a_lead_back_is_no_candidate_and_who_only_tells_asks_for_none(roster):
    events = [lead(str(n), **HERE) for n in range(3)]
    wanted = columns(events, roster)
    fresh, back, told = requests(LEADS, *events)
    batch = [fresh, moved(back, asks=True, tried=("g1", "gone")), moved(told, "accepted")]
    settle(wanted, batch, [Home("b/ms1", "")] * 3, roster, Policy(), NOW_MS)
    assert wanted.cell.tolist() == [roster.cell_row("b/ms1")] * 2 + [-1]
    ranking = rank(wanted, roster, Policy(), NOW_MS)
    guide = roster.guide_row("b", "g1")
    found = [ranking.guide_row[a:b].tolist() for a, b in zip(ranking.start, ranking.start[1:], strict=False)]
    assert found == [[guide], [], []]


@pytest.mark.parametrize(
    ("event", "cell", "queue"),
    [
        (lead(store_id="s9"), "b/x", "x/store/s9"),
        (lead(store_id="s9"), "b/-", "@hq/store/s9"),
        (lead(), "b/%E4%B8%8A", "%E4%B8%8A"),
        (lead(), "b/-", "@hq"),
        (lead(price_zone="full"), "b/x", "x/zone/full"),
        (
            lead(needs=("suits", "上/b", "a|c"), store_id="s"),
            "b/x",
            "x/store/s/needs/%E4%B8%8A%2Fb+a%7Cc+suits",
        ),
        (lead(in_stock=("s",), price_zone="special"), "b/x", "x/zone/special/stock"),
    ],
)
def test_a_queue_is_named_after_where_a_lead_waits_and_who_may_serve_it(event, cell, queue):
    [request] = requests(LEADS, event)
    assert queue_of(request, cell) == queue
    assert cell_of_queue("b", queue) == cell
    assert not set("| ") & set(queue)


@pytest.mark.parametrize("rung", ["region", "hq"])
def test_further_up_the_ladder_a_lead_waits_for_no_store(rung):
    [request] = requests(LEADS, lead(store_id="s", needs=("suits",)))
    assert queue_of(request, "b/x", rung) == f"x/{rung}/needs/suits"
    assert cell_of_queue("b", f"x/{rung}/needs/suits") == "b/x"


@given(st.lists(st.text(min_size=1, max_size=64), max_size=16), st.randoms())
def test_who_needs_the_same_waits_in_the_same_queue_whose_name_is_bounded(needs, random):
    one, other = lead(needs=tuple(needs)), lead(needs=tuple(random.sample(needs, len(needs))))
    [name, same] = [queue_of(request, "b/x") for request in requests(LEADS, one, other)]
    assert name == same
    assert len(name) < 512
    assert not set("| ") & set(name)


@given(st.none() | st.text(min_size=1, max_size=64), st.sampled_from((None, "s1", "store")))
def test_the_log_tells_the_cell_in_which_a_lead_waits(market, store_id):
    [request] = requests(LEADS, lead(store_id=store_id))
    cell = cell_name("b", market)
    assert cell_of_queue("b", queue_of(request, cell)) == cell


# --- offers and the records of their answers ---------------------------------------------------------------


def decided(around, policy):
    """A world's batch, ranked and answered by a claim that skips every third choice."""
    roster = around.roster()
    batch = [
        *requests(LEADS, *[event for event in around.events if isinstance(event, Lead)]),
        *requests(RESERVATIONS, *[event for event in around.events if isinstance(event, Reservation)]),
    ]
    known = [around.homes[each.lead_id] for each in batch]
    homes = [
        Home(home.cell or f"{request.event.brand}/-", home.owner or "")
        for home, request in zip(known, batch, strict=True)
    ]
    wanted = columns([request.event for request in batch], roster)
    settle(wanted, batch, homes, roster, policy, NOW_MS)
    ranking = rank(wanted, roster, policy, NOW_MS)
    asked = offers(batch, homes, wanted, ranking, roster, policy, ["new"] * len(batch), NOW_MS)
    answers = []
    for row, each in enumerate(asked):
        answers.append(answer_of(each, each.shortlist.split()[row % 3 == 2 :], row))
    why = reasons(ranking, wanted, roster, policy, NOW_MS)
    why = explain(why, policy.runners_up, winners(batch, answers, roster))
    return roster, batch, homes, ranking, asked, answers, why


def answer_of(asked, entries, start):
    """The answer of a claim that finds room with the first of the entries."""
    arrival_ms, tier, queue, rung, policy, offer_by, remind, wait_by = asked.about.split()
    now_ms = asked.rules.split()[0]
    if entries:
        step = f"offered 1 {now_ms} {offer_by} {remind} {policy} {start} {asked.cause} - {entries[0]}"
        return Answer("ok", "offered", 1, (step,))
    choice = f"{queue}|{tier}|{arrival_ms}|{rung}"
    step = f"waiting 0 {now_ms} {wait_by} 0 {policy} 0 {asked.cause} - {choice}"
    return Answer("waiting", "waiting", 1, (step,))


@settings(deadline=None, max_examples=30)
@example(world(3))
@given(worlds())
def test_an_offer_holds_the_ranking_and_its_terms(around):
    policy = Policy(version=7, respond_s={"new": 60}, ladder_s={"near": 90}, silent_max=4, pause_s=50)
    roster, batch, homes, ranking, asked, _, _ = decided(around, policy)
    for row, (request, home, each) in enumerate(zip(batch, homes, asked, strict=True)):
        arrival_ms = request.event.occurred_at_ms
        queue = queue_of(request, home.cell)
        limits = f"{NOW_MS + 60_000} {NOW_MS + 30_000} {NOW_MS + 90_000}"
        assert each.about == f"{arrival_ms} 2 {queue} near 7 {limits}"
        assert (each.cell, each.kind, each.lead_id) == (home.cell, request.kind, request.lead_id)
        assert (each.digest, each.member_id) == (request.digest or NO_DIGEST, request.event.member_id)
        assert (each.cause, each.move) == ("|".join(request.cause), "")
        entries = [entry.split("|") for entry in each.shortlist.split()]
        rows = range(ranking.start[row], ranking.start[row + 1])
        assert [entry[0] for entry in entries] == [roster.guide_ids[ranking.guide_row[n]] for n in rows]
        age_up_ms, half_life_ms = 3_600_000, 30 * 86_400_000
        times = f"{age_up_ms} {half_life_ms} 4 50000 1800000 1800000"
        assert each.rules == f"{NOW_MS} {policy.fair_horizon * LEAD} 0123 {times}"
        for guide, step, store_id, score, rung in entries:
            near = "store" if store_id == request.event.store_id else "near"
            assert rung == ("owner" if guide == home.owner_id else near)
            guide_row = roster.guide_row(request.event.brand, guide)
            assert store_id == roster.store_ids[roster.guide_store[guide_row]]
            assert int(step) == roster.guide_step[guide_row]
            assert 0 <= float(score) <= 1


@settings(deadline=None, max_examples=30)
@example(world(3))
@given(worlds())
def test_a_decision_says_why(around):
    """Contributions sum to the score, runners-up stand below by their margin, filters count the refused."""
    roster, batch, _, ranking, _, answers, why = decided(around, Policy())
    said = Reasons(ranking, why, roster)
    for row, (request, answer) in enumerate(zip(batch, answers, strict=True)):
        [made] = assignments(request, answer)
        reasons = said.decision(made, row)
        assert decode(Decision, encode(reasons)) == reasons
        assert decode(Assignment, encode(made)) == made
        assert (reasons.lead_id, reasons.kind, reasons.seq) == (made.lead_id, made.kind, made.seq)
        assert set(reasons.filters) <= {each.name for each in ELIGIBILITY}
        assert reasons.candidates == ranking.seen[row]
        if made.guide_id is None:
            assert (reasons.queue, reasons.score, reasons.runners_up) == (made.queue, None, ())
            continue
        assert reasons.guide_id == made.guide_id
        assert reasons.score == pytest.approx(made.score, abs=2e-4)
        assert list(reasons.contributions) == [each.name for each in FEATURES]
        assert sum(reasons.contributions.values()) == pytest.approx(reasons.score, abs=5e-4)
        for other in reasons.runners_up:
            assert other.guide_id != made.guide_id
            assert reasons.score - other.score == pytest.approx(other.margin, abs=2e-4)


STORED = "offered 1 1000 61000 31000 7 40 lead|l - g1|30|s1|0.5000|near"
WAITING = "waiting 0 1000 61000 0 7 0 lead|l - x/store/s1|3|5|near"
RECORD = "1.500,2.250,0.000,1.000,1,0,70000"


def test_an_assignment_is_made_of_the_stored_answer_and_its_replay_is_the_same():
    [request] = requests(LEADS, lead(lat=1.0, lon=2.0))
    [first] = assignments(request, Answer("ok", "offered", 1, (STORED,)))
    assert [first] == assignments(request, Answer("replay", "offered", 1, (STORED,)))
    assert (first.state, first.guide_id, first.store_id, first.score) == ("offered", "g1", "s1", 0.5)
    assert (first.at_ms, first.respond_by_ms, first.policy_version, first.lead_at_ms) == (1000, 61000, 7, 5)
    assert (first.seq, first.attempt, first.cause.kind, first.cause.id) == (1, 1, "lead", "l")
    assert (first.queue, first.rung, first.remind_at_ms) == (None, "near", 31000)
    assert first.turn == Turn(start=40, end=70)
    [waiting] = assignments(request, Answer("waiting", "waiting", 1, (WAITING,)))
    assert (waiting.state, waiting.queue, waiting.guide_id, waiting.action) == (
        *("waiting", "x/store/s1", None, None),
    )
    assert (waiting.at_ms, waiting.attempt, waiting.respond_by_ms) == (1000, 0, 61000)
    assert (waiting.tier, waiting.rung, waiting.lead_at_ms) == ("prospect", "near", 5)


def test_the_first_record_of_a_lead_tells_what_was_asked_for_and_the_later_ones_are_small():
    """The first is all that is needed to route the lead again; the others stay within 250 bytes."""
    [request] = requests(LEADS, lead("l" * 30, lat=1.0, lon=2.0, needs=("suits",)))
    [booked] = requests(RESERVATIONS, reservation())
    expired = f"expired 1 61000 0 0 7 0 response|t.1 {RECORD} g1|0|s1"
    first, second, third = assignments(
        request, Answer("ok", "waiting", 1, (STORED, expired, WAITING.replace("lead|l", "response|t.1")))
    )
    assert (first.lead, first.digest, first.reservation) == (request.event, request.digest, None)
    assert (second.lead, second.digest, third.lead) == (None, None, None)
    assert (second.guide_id, second.store_id, second.record) == ("g1", "s1", record_of(RECORD))
    assert (second.cause, third.cause) == (Cause(kind="response", id="t.1"),) * 2
    assert [each.seq for each in (first, second, third)] == [1, 2, 3]
    seen = "seen 1 61000 0 0 7 0 response|t.1 - g1|0|s1"
    [later] = assignments(request, Answer("ok", "seen", 2, (seen,)))
    assert len(encode(later)) <= 250
    [visit] = assignments(booked, Answer("ok", "offered", 1, (STORED,)))
    assert (visit.reservation, visit.lead) == (booked.event, None)


@settings(deadline=None, max_examples=20)
@example(world(3))
@given(worlds())
def test_the_log_tells_what_the_claim_has_stored(around):
    _, batch, _, _, _, answers, _ = decided(around, Policy(version=7))
    for request, answer in zip(batch, answers, strict=True):
        logged = [decode(Assignment, encode(each)) for each in assignments(request, answer)]
        assert tuple(map(stored_answer, logged)) == answer.steps


ids = st.text("abc.-@_", min_size=1, max_size=9)
words = {
    "attempt": st.integers(0, 9),
    "at_ms": st.integers(1, 2**45),
    "by_ms": st.integers(1, 2**45),
    "policy": st.integers(0, 9),
    "cause": st.builds("response|{}".format, ids),
}


@given(
    st.sampled_from(("accepted", "contacted", "visited", "won", "lost", "declined", "expired", "returned")),
    st.builds("{attempt} {at_ms} {by_ms} 0 {policy} 0 {cause}".format_map, st.fixed_dictionaries(words)),
    st.sampled_from(("-", RECORD, "0.000,1.000,0.000,0.000,3,9,8")),
    st.integers(1, 99),
)
def test_the_log_tells_every_step_as_it_was_stored(state, middle, record, seq):
    [request] = requests(LEADS, lead())
    step = f"{state} {middle} {record} g|0|s"
    [logged] = assignments(request, Answer("ok", state, seq, (step,)))
    logged = decode(Assignment, encode(logged))
    assert stored_answer(logged) == step
    assert made(step).guide_id is None
    assert logged.turn is None


@given(
    st.builds(
        GuideRecord,
        answered=st.floats(0, 1e6),
        offered=st.floats(0, 1e6),
        won=st.floats(0, 1e6),
        closed=st.floats(0, 1e6),
        silent=st.integers(0, 999),
        paused_until_ms=st.integers(0, 2**45),
        at_ms=st.integers(0, 2**45),
    )
)
def test_a_guides_record_is_the_same_in_redis_and_in_the_log(record):
    text = record_text(record)
    assert record_text(record_of(text)) == text
    assert record_text(decode(GuideRecord, encode(record_of(text)))) == text


def test_the_next_thing_is_due_for_every_lead_that_is_not_over():
    [request] = requests(LEADS, lead())

    def due_ms(step):
        [record] = assignments(request, Answer("ok", step.split()[0], 2, (step,)))
        return ends_ms(record)

    assert due_ms(STORED) == 31000  # the reminder comes first
    assert due_ms(STORED.replace(" 31000 ", " 0 ")) == 61000
    assert due_ms(WAITING) == 61000
    assert due_ms("accepted 1 1000 9000 0 7 0 response|r - g|0|s") == 9000
    # of a moment: if the record behind it is lost, it is due at once
    assert due_ms("expired 1 1000 0 0 7 0 response|r - g|0|s") == 1000
    for state in FINAL_STATES:
        assert due_ms(f"{state} 1 1000 0 0 7 0 response|r - g|0|s") is None


def test_the_members_own_guide_is_told_so_whoever_asks_again():
    [request] = requests(LEADS, lead(lat=1.0, lon=2.0))
    step = STORED.replace("|near", "|owner")
    [record] = assignments(request, Answer("replay", "offered", 1, (step,)))
    assert record.action.code == "contact.owner"
    assert stored_answer(record) == step


def test_the_guide_of_an_answer_is_whoever_was_offered_the_lead_by_it():
    offered = Answer("ok", "offered", 1, (STORED,)).offered
    assert (offered.guide_id, offered.start) == ("g1", 40)
    assert Answer("waiting", "waiting", 1, (WAITING,)).offered is None
    reminded = "offered 1 1000 61000 0 7 0 response|t.1 - g1|0|s1"
    assert Answer("ok", "offered", 2, (reminded,)).offered is None
    expired = f"expired 1 61000 0 0 7 0 response|t.1 {RECORD} g0|0|s1"
    assert Answer("ok", "offered", 2, (expired, STORED)).offered.guide_id == "g1"


@pytest.mark.parametrize("rung", ["near", "region", "hq"])
def test_a_lead_that_waits_looks_as_far_as_its_move_says(rung):
    [request] = requests(LEADS, lead())
    assert rung_of(request) == "near"
    assert rung_of(moved(request, "expired", asks=True, rung=rung)) == rung


# --- actions -----------------------------------------------------------------------------------------------


@example(needs=("x" * 64,) * 16, within_ms=7 * 86_400_000, named="s1", rung="near", booked=True)
@given(
    needs=st.lists(st.text(min_size=1, max_size=64), max_size=16).map(tuple),
    within_ms=st.integers(0, 7 * 86_400_000),
    named=st.sampled_from((None, "s1", "s2")),
    rung=st.sampled_from(("owner", "store", "near", "region", "hq")),
    booked=st.booleans(),
)
def test_an_action_is_one_sentence_within_its_limits(needs, within_ms, named, rung, booked):
    event = reservation(needs=needs, store_id=named or "s2") if booked else lead(needs=needs, store_id=named)
    sentence = action(event, "s1", within_ms, rung)
    code, why = sentence.code.split(".")
    assert code == ("receive" if booked else "contact")
    assert why == ("owner" if rung == "owner" else "store" if event.store_id == "s1" else "near")
    assert WHY[why] in sentence.text
    whole = with_action(sentence)
    assert decode(Assignment, encode(whole)) == whole


def with_action(sentence):
    [request] = requests(LEADS, lead())
    [record] = assignments(request, Answer("ok", "offered", 1, (STORED,)))
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return Assignment(**fields | {"action": sentence})


def test_t01_an_action_names_no_guide_and_no_member():
    """What a guide reads holds nobody's id but the lead's own."""
    event = Lead(lead_id="l", member_id="member-77", brand="brand-77", occurred_at_ms=1, group_id="group-77")
    for rung in ("owner", "near"):
        text = action(event, "store-77", 60_000, rung).text
        assert "77" not in text
    assert all(set("{}") & set(text) for text in TEXTS.values())


# --- dead letters ------------------------------------------------------------------------------------------


@given(value=st.none() | st.binary(max_size=99) | st.just(b"y" * (MESSAGE_BYTES_MAX + 7)), detail=st.text())
def test_a_dead_letter_is_the_original_and_says_where_and_why(value, detail):
    cut, headers = dead_letter(Refusal(Record(value, 9), "invalid", detail), "leads")
    held = dict(headers)
    assert cut == (value or b"")[:MESSAGE_BYTES_MAX]
    assert held.pop("detail") == detail[:500].encode()
    assert held == {
        "reason": b"invalid",
        "topic": b"leads",
        "partition": b"3",
        "offset": b"9",
        "length": b"-1" if value is None else b"%d" % len(value),
        "sha256": hashlib.sha256(value or b"").hexdigest().encode(),
        "received_at_ms": b"17",
    }


def test_dead_letters_keep_their_key_and_name_their_topic_without_the_prefix():
    box = Outbox("t.", {"t.dead-letters": 5})
    records = [Record(b"bad"), replace(Record(b"bad"), key=None)]
    letters = box.dead_letters([Refusal(record, "invalid", "") for record in records])
    assert [(each.topic, each.key, each.partition) for each in letters] == [
        ("t.dead-letters", b"m", partition_of(b"m", 5)),
        ("t.dead-letters", None, 0),
    ]
    assert dict(letters[0].headers)["topic"] == b"leads"


# --- what goes out -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(around=worlds(), data=st.data())
def test_everything_that_was_asked_gets_its_record(around, data):
    """An assignment for each, a decision for what is fresh; for a conflict a dead letter instead."""
    roster, batch, _, ranking, _, answers, why = decided(around, Policy())
    turned = data.draw(st.lists(st.sampled_from(("", "replay", "conflict")), min_size=len(batch)))
    answers = [
        replace(answer, result=result or answer.result)
        for answer, result in zip(answers, turned, strict=False)
    ]
    partitions = {"t.assignments": 7, "t.decisions": 7, "t.dead-letters": 3}
    out = Outbox("t.", partitions).results(batch, answers, ranking, why, roster)
    by_topic = {topic: [each for each in out if each.topic == "t." + topic.name] for topic in OUT}
    results = [answer.result for answer in answers]
    assert [decode(Assignment, each.value).lead_id for each in by_topic[ASSIGNMENTS]] == [
        request.lead_id for request, result in zip(batch, results, strict=True) if result != "conflict"
    ]
    assert [decode(Decision, each.value).lead_id for each in by_topic[DECISIONS]] == [
        request.lead_id for request, result in zip(batch, results, strict=True) if result in {"ok", "waiting"}
    ]
    assert [each.value for each in by_topic[DEAD_LETTERS]] == [
        request.record.value for request, result in zip(batch, results, strict=True) if result == "conflict"
    ]
    assert sum(map(len, by_topic.values())) == len(out)
    for each in out:
        assert each.partition == partition_of(each.key, partitions[each.topic])
    for each in by_topic[ASSIGNMENTS]:
        assert each.key == decode(Assignment, each.value).member_id.encode()


OUT = (ASSIGNMENTS, DECISIONS, DEAD_LETTERS)


def test_winners_are_rows_of_the_roster(roster):
    batch = requests(LEADS, lead("a"), lead("b"), lead("c"))
    answers = [Answer("ok", "offered", 1, (STORED,)), Answer("waiting", "waiting", 1, (WAITING,))]
    answers.append(Answer("replay", "offered", 1, (STORED.replace("g1", "gone"),)))
    rows = winners(batch, answers, roster)
    assert rows.tolist() == [roster.guide_row("b", "g1"), -1, -1]
    assert rows.dtype == np.int32


def test_a_request_that_comes_twice_is_decided_by_the_record_that_came_first():
    events = [lead(lead_id=lead_id, member_id=member_id) for lead_id, member_id in ("xm", "yn", "xo", "zp")]
    batch = requests(LEADS, *events)
    order = claim_order(batch, np.array([2, 3, 0, 1]))
    assert order == [3, 0, 1, 2]
    assert put_back([f"answer {row}" for row in order], order) == [f"answer {row}" for row in range(4)]

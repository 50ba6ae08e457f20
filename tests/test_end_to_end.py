"""The promises of a running worker, judged from the raw topics, on embedded and on real parts."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from hashlib import sha256
from types import SimpleNamespace
from uuid import uuid4

import orjson
import pytest
from msgspec.structs import replace

from router.demo.country import built_in_stores
from router.demo.load import Load
from router.demo.malformed import MALFORMED
from router.demo.roster import GUIDES_PER_STORE, roster
from router.demo.simulate import simulate
from router.demo.worker_process import WorkerProcess
from router.local import EmbeddedRedis
from router.state import keys
from scoring.layout import cell_name
from tests.parts import RealCluster, RealRedis
from tests.world import World, told
from topics.bindings import Binding
from topics.catalog import (
    ASSIGNMENTS,
    BINDINGS,
    DEAD_LETTERS,
    DECISIONS,
    GUIDES,
    LEADS,
    POLICIES,
    PRESENCE,
    RESERVATIONS,
    STORES,
    TOUCHES,
)
from topics.codec import MESSAGE_BYTES_MAX, encode
from topics.guides import Guide, Presence
from topics.leads import Lead
from topics.policies import Policy
from topics.reservations import Reservation
from topics.stores import Store
from topics.touches import Touch

HOUR_MS = 3_600_000
REDIS = {"embedded": EmbeddedRedis, "real": RealRedis, "cluster": RealCluster}
STORES_OF_1 = built_in_stores(1)
#: Where the first store of a shop stands, in degrees.
LAT, LON = 31.2, 121.5
NOBODY_NEAR = {"lat": -50.0, "lon": 0.0}


def now_ms():
    return time.time_ns() // 1_000_000


def lead(brand, name, **fields):
    """A lead at the door of the first store."""
    common = {"member_id": f"m-{name}", "occurred_at_ms": now_ms(), "lat": LAT, "lon": LON}
    return Lead(brand=brand, lead_id=name, **{**common, **fields})


def leads(brand, name, count, **fields):
    return [lead(brand, f"{name}{number}", **fields) for number in range(count)]


def reservation(brand, name, store_id, **fields):
    starts_at_ms = now_ms() + 24 * HOUR_MS
    times = {"starts_at_ms": starts_at_ms, "ends_at_ms": starts_at_ms + HOUR_MS, "occurred_at_ms": now_ms()}
    common = {"version": 1, "member_id": f"m-{name}", "status": "booked", "store_id": store_id}
    return Reservation(brand=brand, reservation_id=name, **{**common, **times, **fields})


def store(brand, name, *, km=0.0, market="here"):
    """A store so many kilometres north of the first one."""
    place = {"lat": LAT + km / 111.2, "lon": LON, "market": market}
    return STORES, Store(store_id=name, brand=brand, version=1, kind="full_price", active=True, **place)


def guide(brand, name, store_id, **fields):
    common = {"version": 1, "active": True, "capacity": 100}
    return GUIDES, Guide(guide_id=name, brand=brand, store_id=store_id, **{**common, **fields})


def presence(brand, name, status):
    return PRESENCE, Presence(guide_id=name, brand=brand, status=status, occurred_at_ms=now_ms())


def tell(world, brand, *events, market="here", **capacities):
    """Publish a roster or a change of it, and wait until Redis holds these capacities of guides."""
    world.roster(events)
    key = keys.capacity(f"{brand}/{market}")

    def held():
        told = world.redis.hmget(key, list(capacities))
        return [value and int(value.rpartition(b":")[2]) for value in told]

    world.until(lambda: held() == list(capacities.values()), f"capacities {capacities}")


def shop(world, brand):
    """One store with two guides, a and b."""
    roster = (store(brand, "s1"), guide(brand, "a", "s1"), guide(brand, "b", "s1"))
    tell(world, brand, *roster, a=100, b=100)


def guides_of(answers):
    return {answer.get("guide_id") for answer in answers}


# -- one worker that several tests share, each with a brand of its own


REAL = [pytest.param(kind, marks=pytest.mark.real) for kind in ("real", "cluster")]


@pytest.fixture(scope="module", params=["embedded", *REAL])
def world(request):
    kafka = None if request.param == "embedded" else request.getfixturevalue("real_kafka")
    kind = request.param if kafka else "embedded"
    kafka = kafka or request.getfixturevalue("embedded_kafka")
    with REDIS[kind]() as redis, World(kafka.url, redis.url, f"e{uuid4().hex[:12]}.") as world:
        world.redis_type = REDIS[kind]
        world.worker.start()
        yield world


def test_everything_is_answered_once_and_the_answer_says_why(world):
    """All answered once, the states add up, reasons sum to scores, Redis shows what the log says."""
    stores = STORES_OF_1[::6]
    guides = world.metrics()["guides",] + len(stores) * GUIDES_PER_STORE
    world.roster(roster(stores, 1, brand="one", at_ms=now_ms()))
    world.until(lambda: world.metrics()["guides",] == guides, "a roster")
    load = Load(
        seed=1, leads=600, stores=stores, brand="one", hot_city_share=0.6,
        reservation_share=1 / 11, duplicate_share=0, malformed_share=0,
    )  # fmt: skip
    target = (world.kafka_url, world.prefix)
    sent = asyncio.run(simulate(*target, load, 5_000, lambda _: None))
    assert (sent.leads, 30 < sent.reservations < 90) == (600, True)
    world.until(lambda: len(world.answers("one")) == sent.total, f"answered: {sent.total}")

    def to_explain():
        """Every step by which somebody was looked for."""
        records = (record for those in world.answers("one").values() for record in those)
        return {
            (record["kind"], record["lead_id"], record["seq"]): record
            for record in records
            if "turn" in record or record["state"] == "waiting"
        }

    world.until(lambda: len(world.events(DECISIONS, "one")) == len(to_explain()), "explained")
    world.settle()

    answers, explained = world.answers("one"), to_explain()
    firsts = [records[0] for records in answers.values()]
    states = [first["state"] for first in firsts]
    # a second lead of a member for the same is merged into the first
    assert {first["reason"] for first in firsts if first["state"] == "closed"} <= {"merged"}
    assert states.count("offered") + states.count("waiting") + states.count("closed") == sent.total
    assert states.count("offered") > 350
    assert states.count("waiting") > 10
    for decision in world.events(DECISIONS, "one"):
        answer = explained[decision["kind"], decision["lead_id"], decision["seq"]]
        assert decision.get("guide_id") == answer.get("guide_id")
        if answer["state"] == "offered":
            assert decision["candidates"] > 0
            assert decision["score"] == answer["score"]
            assert sum(decision["contributions"].values()) == pytest.approx(decision["score"], abs=5e-4)
        else:
            assert decision["queue"] == answer["queue"]
    world.check()  # price zones and capacities among others


@pytest.mark.parametrize("cells", [1, 3])
def test_leads_and_owners_of_one_cell_and_of_three_are_routed_and_projected_alike(world, cells):
    """Each lead at its nearest store, or at its owner's in another cell."""
    brand = f"cells{cells}"
    markets = [f"market {number % cells}" for number in range(3)]
    stores = [store(brand, f"s{n}", km=10 * n, market=market) for n, market in enumerate(markets)]
    world.roster([*stores, *(guide(brand, f"g{n}", f"s{n}", capacity=20) for n in range(3))])
    held = {f"g{n}": keys.capacity(cell_name(brand, market)) for n, market in enumerate(markets)}
    world.until(lambda: all(world.redis.hexists(key, name) for name, key in held.items()), "capacities")
    binding = {"brand": brand, "member_id": "m-own", "occurred_at_ms": now_ms(), "guide_id": "g2"}
    world.publish(BINDINGS, Binding(command_id="c", kind="bind", **binding))
    member = keys.member(brand, "m-own")
    world.until(lambda: world.redis.hget(member, "owner") == b"g2", "bound")

    near = [lead(brand, f"l{n}-{i}", lat=LAT + 10 * n / 111.2) for i in range(10) for n in range(3)]
    [own, *answers] = ask(world, lead(brand, "own", member_id="m-own"), *near)
    assert [answer["guide_id"] for answer in answers] == ["g0", "g1", "g2"] * 10
    assert own["guide_id"] == "g2"
    full = ask(world, *(lead(brand, f"more{n}") for n in range(40)))
    if cells == 3:  # nobody is taken from another cell
        assert [answer["state"] for answer in full].count("waiting") == 40 - (20 - 10)
    open_leads = {world.redis.zcard(keys.open_attempts(keys.tag(key))) for key in held.values()}
    assert open_leads == ({20, 10, 11} if cells == 3 else {60})
    world.settle()
    world.check()


@pytest.mark.parametrize(("weights", "shares"), [((1, 1), (15, 15)), ((1, 3), (8, 22))])
def test_leads_that_come_one_by_one_go_in_turn_by_weight(world, weights, shares):
    """30 leads, each its own batch, to two guides who are alike: equal weights get the same, 1:3 get 1:3."""
    brand = f"turns{weights[1]}"
    guides = [guide(brand, name, "s1", weight=weight) for name, weight in zip("ab", weights, strict=True)]
    tell(world, brand, store(brand, "s1"), *guides, a=100, b=100)
    got = Counter(ask(world, lead(brand, f"l{number}"))[0]["guide_id"] for number in range(30))
    assert [got["a"], got["b"]] == pytest.approx(shares, abs=1)
    world.settle()
    world.check()


REASONS = {
    "not_json": "not_json",
    "not_utf8": "not_json",
    "too_deep": "not_json",
    "nan": "not_json",
    "too_large": "too_large",
    "tombstone": "tombstone",
    "duplicate_key": "duplicate_key",
}


def test_f42_one_id_for_two_members_is_answered_once(world):
    """The same lead id for another member, in another market, is a conflict and no second assignment."""
    tell(world, "twice", store("twice", "s1", market="one"), guide("twice", "g1", "s1"), market="one", g1=100)
    tell(world, "twice", store("twice", "s2", market="two"), guide("twice", "g2", "s2"), market="two", g2=100)
    assert guides_of(ask(world, lead("twice", "x", store_id="s1"))) == {"g1"}
    other = lead("twice", "x", member_id="another", store_id="s2")
    world.publish(LEADS, other)
    world.until(
        lambda: encode(other) in {message.value() for message in world.records[DEAD_LETTERS.name]},
        "the conflict in the dead letters",
    )
    assert len(world.events(ASSIGNMENTS, "twice")) == 1
    world.check()


def test_f47_f52_bad_events_are_set_aside_unchanged_between_good_ones(world):
    """Each bad one ends in the dead letters with its reason, place and bytes; the good ones pass."""
    shop(world, "two")
    good = leads("two", "good", len(MALFORMED))
    odd = {"colour": "red", "more": {"deep": [1, None]}, **orjson.loads(encode(lead("two", "odd")))}
    bad = [
        (kind.name, b"m-bad", kind.spoil(orjson.loads(encode(lead("two", f"bad-{kind.name}", tier="new")))))
        for kind in MALFORMED
    ]
    mixed = [
        event for pair in zip(good, [(key, value) for _, key, value in bad], strict=True) for event in pair
    ]
    places = world.publish(LEADS, *mixed, (b"m-odd", orjson.dumps(odd)))[1:-1:2]
    answers = world.answer("two", *(event.lead_id for event in good), "odd")
    assert guides_of(answers) <= {"a", "b"}

    expected = {
        ("leads", *where): (REASONS.get(name, "invalid"), key, value)
        for where, (name, key, value) in zip(places, bad, strict=True)
    }
    letters = dead_letters(world, expected)
    for where, (reason, key, value) in expected.items():
        message, headers = letters[where]
        bytes_in = value or b""
        assert (headers["reason"], message.key()) == (reason, key)
        assert (message.value() or b"") == bytes_in[:MESSAGE_BYTES_MAX]
        assert headers["length"] == str(-1 if value is None else len(bytes_in))
        assert headers["sha256"] == sha256(bytes_in).hexdigest()
    world.settle()
    world.check()


def dead_letters(world, places):
    """``(topic, partition, offset)`` to dead letter and its headers, once all these places have theirs."""

    def found():
        letters = {}
        for message in world.records[DEAD_LETTERS.name]:
            headers = {name: value.decode() for name, value in message.headers()}
            letters[headers["topic"], int(headers["partition"]), int(headers["offset"])] = message, headers
        return letters

    world.until(lambda: found().keys() >= set(places), f"dead-lettered: {set(places) - found().keys()}")
    return found()


def test_f41_f42_a_repeat_gets_the_same_answer_and_other_content_is_a_conflict(world):
    """Repeats, in one batch and later, are answered by equal records; an id used again is set aside."""
    shop(world, "dup")
    first, other = lead("dup", "x"), lead("dup", "x", value_fen=7)
    booked = reservation("dup", "r", "s1")
    world.publish(LEADS, first, first)
    world.publish(RESERVATIONS, booked, booked)
    world.answer("dup", "x")
    [held] = world.answer("dup", "r", kind="reservation")
    [place] = world.publish(LEADS, other)
    world.publish(LEADS, first)
    world.publish(RESERVATIONS, booked)
    for which, times in ((("lead", "x"), 3), (("reservation", "r"), 3)):
        world.until(lambda: len(world.answers("dup")[which]) == times, "repeated")  # noqa: B023 - called at once
        assert all(answer == world.answers("dup")[which][0] for answer in world.answers("dup")[which])
    message, headers = dead_letters(world, [("leads", *place)])["leads", *place]
    assert (headers["reason"], message.value()) == ("conflict", encode(other))
    assert world.redis.zcard(keys.open_attempts("dup/here")) == 2
    assert held["guide_id"] in {"a", "b"}
    world.settle()
    world.check()


def test_the_roster_changes_live(world):
    """Who goes inactive or offline gets nothing more; a new store and its guide get leads."""
    shop(world, "live")
    assert guides_of(ask(world, *leads("live", "before", 20))) == {"a", "b"}
    tell(world, "live", guide("live", "a", "s1", version=2, active=False), a=0)
    assert takers(world, *leads("live", "without-a", 10)) == {"b"}
    back = guide("live", "a", "s1", version=3)
    tell(world, "live", back, presence("live", "b", "offline"), a=100, b=0)
    assert takers(world, *leads("live", "without-b", 10)) == {"a"}

    there = {"lat": LAT + 5, "lon": LON}
    [waiting] = ask(world, lead("live", "too-early", **there))
    assert (waiting["state"], waiting["queue"]) == ("waiting", "@hq")
    opened = (store("live", "s2", km=5 * 111.2, market="there"), guide("live", "c", "s2"))
    tell(world, "live", *opened, market="there", c=100)
    assert takers(world, *leads("live", "new", 5, **there)) == {"c"}
    world.settle()
    world.check()


def ask(world, *events):
    """Publish leads and return their answers."""
    world.publish(LEADS, *events)
    return world.answer(events[0].brand, *(event.lead_id for event in events))


def takers(world, *events):
    """Publish leads and return whom they are offered to first.

    Redis knows of a changed roster a moment before the worker's ranking does: a lead may wait for that long.
    """
    world.publish(LEADS, *events)

    def offers():
        answers = world.answers(events[0].brand)
        told = [answers.get(("lead", event.lead_id), ()) for event in events]
        return [next((each["guide_id"] for each in mine if each.get("guide_id")), None) for mine in told]

    world.until(lambda: None not in offers(), "offered")
    return set(offers())


def test_a_new_policy_rules_and_an_invalid_one_does_not(world):
    """The policy's version and time limit stand on the assignment; a refused one leaves the old one."""
    shop(world, "rule")
    [before] = ask(world, lead("rule", "before"))
    assert before["policy_version"] == 0
    world.publish(POLICIES, Policy(brand="rule", version=3, toml="[respond_s]\nprospect = 3000\n"))
    for attempt in range(1000):
        [answer] = ask(world, lead("rule", f"probe{attempt}"))
        if answer["policy_version"] == 3:
            break
    assert answer["respond_by_ms"] - answer["at_ms"] == 3_000_000

    refused = ("reference_refused_total", "invalid", "policies")
    count = world.metrics().get(refused, 0)
    world.publish(POLICIES, Policy(brand="rule", version=4, toml="[weights]\nluck = 1\n"))
    world.until(lambda: world.metrics().get(refused, 0) == count + 1, "refused")
    [answer] = ask(world, lead("rule", "after"))
    assert answer["policy_version"] == 3
    world.settle()
    world.check()


def test_the_bound_owner_gets_the_lead_until_unbound(world):
    """A member's owner is chosen over a nearer guide until unbound, and so is who has borrowed the member."""
    opened = (store("own", "s1"), guide("own", "near", "s1"))
    away = (store("own", "s2", km=8), guide("own", "owner", "s2"), guide("own", "borrower", "s2"))
    tell(world, "own", *opened, *away, near=100, owner=100, borrower=100)
    member = keys.member("own", "m1")

    def bind(command, kind, guide_id):
        event = Binding(
            command_id=command,
            member_id="m1",
            brand="own",
            occurred_at_ms=now_ms(),
            kind=kind,
            guide_id=guide_id,
        )
        world.publish(BINDINGS, event)
        bound = b"owner" if kind == "bind" else b""
        world.until(lambda: world.redis.hget(member, "owner") == bound, kind)

    [before] = ask(world, lead("own", "before", member_id="m1"))
    bind("c1", "bind", "owner")
    [bound, stranger] = ask(world, lead("own", "bound", member_id="m1"), lead("own", "other", member_id="m2"))
    bind("c2", "unbind", None)
    [after] = ask(world, lead("own", "after", member_id="m1"))
    assert [each["guide_id"] for each in (before, bound, stranger, after)] == [
        "near",
        "owner",
        "near",
        "near",
    ]
    assert bound["action"]["code"] == "contact.owner"
    bind("c3", "bind", "owner")
    about = {"member_id": "m1", "brand": "own", "occurred_at_ms": now_ms(), "to_guide_id": "borrower"}
    world.publish(BINDINGS, Binding(command_id="c4", kind="lend", until_ms=now_ms() + HOUR_MS, **about))
    world.until(lambda: world.redis.hget(member, "loan").startswith(b"borrower|"), "lent")
    [lent] = ask(world, lead("own", "lent", member_id="m1"))
    assert (lent["guide_id"], lent["action"]["code"]) == ("borrower", "contact.owner")
    world.settle()
    world.check()


def test_the_metrics_tell_what_was_sent(world):
    """Events, claims, dead letters and durations count exactly what went in; a waiting lead shows its age."""
    shop(world, "count")
    world.settle()
    world.until(lambda: not lag(world), "no lag")
    before = world.metrics()
    first = lead("count", "x")
    old = lead("count", "old", occurred_at_ms=now_ms() - 5 * HOUR_MS, **NOBODY_NEAR)
    ask(world, first, *leads("count", "more", 6), old)
    world.publish(LEADS, first)
    places = world.publish(LEADS, lead("count", "x", value_fen=1), (b"m", b"{"))
    dead_letters(world, [("leads", *place) for place in places])
    world.settle()
    grown = {
        ("events_total", "routed", "leads"): 9,
        ("events_total", "dead_letter", "leads"): 2,
        ("events_total", "projected", "assignments"): 9,
        ("claim_total", "ok"): 7,
        ("claim_total", "waiting"): 1,
        ("claim_total", "replay"): 1,
        ("claim_total", "conflict"): 1,
        ("dlq_total", "conflict"): 1,
        ("dlq_total", "not_json"): 1,
        ("decision_seconds_count",): 10,
    }

    def counted():
        after = world.metrics()
        return {name: after.get(name, 0) - before.get(name, 0) for name in grown}

    # what the broker has is counted a moment later
    world.until(lambda: counted() == grown, f"counted: {grown}")
    world.until(lambda: max(ages(world), default=0) >= 5 * 3600, "an age")
    world.until(lambda: not lag(world), "no lag")
    assert counted() == grown
    after = world.metrics()
    for stage in ("route", "fix_cells", "claim", "publish", "keep_journeys", "deliver_cards"):
        assert 0 < after["stage_seconds_sum", stage] < 60, stage
        assert after["stage_seconds_count", stage] == after["stage_seconds_bucket", "+Inf", stage] > 0
    assert after["ready",] == 1
    world.check()


def ages(world):
    """How long leads wait in each named queue, s."""
    return [value for (name, *_), value in world.metrics().items() if name == "oldest_waiting_seconds"]


def lag(world):
    return sum(value for (name, *_), value in world.metrics().items() if name == "consumer_lag_records")


def test_the_metrics_are_on_loopback_only(world):
    """Another address of the same machine finds nobody on the port."""
    with closing(socket.create_connection(("127.0.0.1", world.worker.port), 5)):
        pass
    with pytest.raises(OSError, match=r"refused|unreachable|assign"):
        socket.create_connection(("127.0.0.2", world.worker.port), 5)


def test_the_inbox_command_shows_cards_and_follows(world):
    """``inbox --json`` prints the cards as they stand in the log; with ``--follow`` later ones, too."""
    tell(world, "box", store("box", "s1"), guide("box", "g", "s1"), g=100)
    ask(world, lead("box", "first"), lead("box", "second"))
    world.settle()
    command = [sys.executable, "-m", "router", "inbox", "g", "--brand", "box", "--json"]
    environment = {**os.environ, **world.environment}
    shown = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=30)
    cards = {orjson.loads(line)["lead_id"]: line for line in shown.stdout.splitlines()}
    assert cards == {event["lead_id"]: orjson.dumps(event) for event in world.events(ASSIGNMENTS, "box")}

    with subprocess.Popen([*command, "--follow"], env=environment, stdout=subprocess.PIPE) as following:
        try:
            already = {orjson.loads(following.stdout.readline())["lead_id"] for _ in cards}
            assert already == {"first", "second"}
            ask(world, lead("box", "later"))
            assert orjson.loads(following.stdout.readline())["lead_id"] == "later"
            following.send_signal(signal.SIGINT)
            assert following.wait(10) == 0
        finally:
            following.kill()
    world.check()


def test_a_worker_beside_an_empty_redis_brings_it_to_what_the_log_says(world):
    """It does not guess who holds what: it is ready once every key is there."""
    shop(world, "empty")
    ask(world, *leads("empty", "x", 20))
    world.settle()
    with world.redis_type() as fresh:
        there = {"LEAD_ROUTER_REDIS_URL": fresh.url, "LEAD_ROUTER_GROUP": f"{world.prefix}other"}
        other = SimpleNamespace(environment=world.environment | there)
        with WorkerProcess(other.environment) as worker:
            worker.start()
            worker.stop()
        assert told(other, "verify", 0).endswith("redis: as the log says\n")
    world.check()


# -- trouble: each test has a worker, a Redis and topics of its own


@pytest.fixture
def troubled(parts, prefix):
    """A world with a roster and no worker yet."""
    with World(parts.kafka_url, parts.redis_url, prefix) as world:
        world.roster(roster(STORES_OF_1, 1, at_ms=now_ms()))
        yield world


def track():
    """Every kind of binding of one member, the third hard transfer among them, and touches of another."""
    said = (
        *(("bind", "a"), ("transfer_started", "b"), ("transfer_vetoed", None), ("transfer_done", "b")),
        *(("transfer_started", "c"), ("transfer_done", "c"), ("lend", "d"), ("transfer_started", "e")),
    )
    for at_ms, (kind, to) in enumerate(said):
        until_ms = 9 if kind == "lend" else None
        about = {"member_id": "m-t", "brand": "t", "occurred_at_ms": at_ms, "to_guide_id": to}
        yield Binding(command_id=f"c{at_ms}", kind=kind, until_ms=until_ms, **about)
    for number in range(6):
        about = {"member_id": "t-m", "brand": "t", "occurred_at_ms": now_ms() + number}
        way = "out" if number % 2 else None
        yield Touch(touch_id=f"t{number}", kind="chat", guide_id="g", direction=way, **about)


def test_the_queue_of_a_market_that_its_store_has_left_is_looked_after_by_who_starts_later(troubled):
    """The compacted topic tells the market of now alone, and leads of before are where they were."""
    world = troubled
    world.worker.start()
    opened = (store("left", "s1", market="before"), guide("left", "g", "s1", capacity=0))
    tell(world, "left", *opened, market="before", g=0)
    [waiting] = ask(world, lead("left", "waits"))
    assert waiting["state"] == "waiting"
    moved = replace(store("left", "s1", market="after")[1], version=2)
    tell(world, "left", (STORES, moved), market="after", g=0)
    world.worker.stop()
    world.worker.start()
    told = ("oldest_waiting_seconds", "left", waiting["queue"])
    world.until(lambda: told in world.metrics(), "the age of who waits there")
    world.settle()
    world.check()


def test_f25_an_empty_redis_is_rebuilt_from_the_log(troubled):
    """``verify`` agrees with the routing and names every key of a lost Redis; ``rebuild`` brings it back."""
    world = troubled
    world.worker.start()
    world.publish(BINDINGS, *(event for event in track() if isinstance(event, Binding)))
    world.publish(TOUCHES, *(event for event in track() if isinstance(event, Touch)), (b"m", b"{"))
    with world.load(leads=300, rate_per_s=300) as sending:
        sent = world.sent(sending)
    world.settle(sent)
    noted = {keys.acts("t", "t-m"): 2, keys.contacts("t", "t-m"): 3, keys.track("t", "t-m"): 6}
    noted[keys.deeds("t", "t-m")] = 6

    def tracked():
        told_of = {name.decode(): world.redis.zcard(name) for name in world.redis.scan_iter("lr:*:t-*")}
        held = world.redis.hmget(keys.member("t", "m-t"), "owner", "loan")
        letters = [dict(each.headers()) for each in world.records[DEAD_LETTERS.name]]
        reasons = {each["topic"]: each["reason"] for each in letters}
        return told_of, held, reasons.get(b"touches"), reasons.get(b"bindings")

    # the inputs of another topic may be read later
    world.until(lambda: tracked() == (noted, [b"c", b"d|6|9"], b"not_json", b"transfer_budget"), "tracked")
    world.worker.stop()
    assert told(world, "verify", 0).endswith("redis: as the log says\n")
    world.redis.flushall()
    lost = told(world, "verify", 1)
    assert lost.count(": is missing\n") > 300
    assert told(world, "rebuild", 0).count(": is missing\n") == lost.count(": is missing\n")
    assert told(world, "verify", 0).endswith("redis: as the log says\n")
    world.check()

"""The made-up world can be made again, the load is what it says, and the tail misses nothing."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from itertools import count

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from router.audit import Audit
from router.config import Settings
from router.demo.country import CITIES, built_in_stores
from router.demo.directory import COLUMNS, read_stores
from router.demo.load import Load
from router.demo.malformed import MALFORMED
from router.demo.orders import COMMISSION, Orders
from router.demo.roster import roster
from router.demo.run import Options, demo
from router.demo.simulate import publish_roster, simulate
from router.demo.tail import Tail, verify
from router.demo.words import ProgressLine, earnings, money, summary, yuan
from router.demo.worker_process import WorkerProcess
from router.errors import ConfigError
from router.topology import bootstrap, ensure_topics
from scoring.policy import parse
from tests import verifier
from topics.catalog import GUIDES, LEADS, ORDERS, RESERVATIONS, STORES
from topics.codec import BadEventError, decode, encode

STORES_OF_1 = built_in_stores(1)
HEADER = ",".join(COLUMNS)
ROW = "s1,店,上海市,31.2,121.5,07:00,22:00,OG|DL"


def load(**options):
    return Load(**{"seed": 1, "leads": 1_000, "stores": STORES_OF_1, **options})


def clock(start_ms=1_790_000_000_000):
    return count(start_ms).__next__


# -- the country and the directory


def test_the_country_is_the_same_for_the_same_seed_and_bigger_cities_have_more_stores():
    assert STORES_OF_1 == built_in_stores(1) != built_in_stores(2)
    stores = Counter(store.city for store in STORES_OF_1)
    assert len(CITIES) == len(stores) == 36
    assert stores["上海市"] > stores["海口市"] >= 2
    assert len({store.store_id for store in STORES_OF_1}) == len(STORES_OF_1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_directory_is_read_whatever_the_order_of_its_columns(tmp_path, encoding):
    path = tmp_path / "stores.csv"
    path.write_text(f"more,{HEADER}\nx,{ROW}\ny,s2,,北京市,39.9,116.4,09:00,21:00,\n", encoding=encoding)
    first, second = read_stores(path)
    assert (first.store_id, first.city, first.lat, first.services) == ("s1", "上海市", 31.2, ("OG", "DL"))
    assert (second.name, second.services) == ("", ())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{HEADER}\n{ROW}\ns 2{ROW[2:]}\n", "line 3, column store_id: 's 2'"),
        (f"{HEADER}\n{ROW.replace('31.2', '91')}\n", "line 2, column lat: '91'"),
        (f"{HEADER}\n{ROW.replace('121.5', 'east')}\n", "line 2, column lon: 'east'"),
        (f"{HEADER}\n{ROW.replace('121.5', 'nan')}\n", "line 2, column lon: 'nan'"),
        (f"{HEADER}\n{ROW.replace('07:00', '7am')}\n", "line 2, column opens: '7am'"),
        (f"{HEADER}\n{ROW.replace('上海市', '')}\n", "line 2, column city: ''"),
        (f"{HEADER}\n{ROW}{'x' * 70}\n", "line 2, column services"),
        (f"{HEADER}\ns1,店\n", "line 2, column city: ''"),
        (f"{HEADER}\n{ROW}\n{ROW}\n", "line 3, column store_id: s1 stands in line 2 already"),
        (HEADER.replace("lat,", "") + "\n", "line 1: column lat is missing"),
        (f"{HEADER}\n", "names no store"),
        ("", "line 1: column store_id is missing"),
    ],
)
def test_a_bad_directory_is_refused_by_line_and_column(tmp_path, text, complaint):
    path = tmp_path / "stores.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        read_stores(path)
    assert complaint in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_directory_that_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "gbk.csv").write_bytes(f"{HEADER}\n{ROW}\n".encode("gbk"))
    with pytest.raises(ConfigError, match="UTF-8"):
        read_stores(tmp_path / "gbk.csv")
    with pytest.raises(ConfigError, match="No such file"):
        read_stores(tmp_path / "absent.csv")


# -- the roster


def test_the_roster_is_valid_and_the_same_for_the_same_seed():
    events = list(roster(STORES_OF_1, 1))
    assert events == list(roster(STORES_OF_1, 1)) != list(roster(STORES_OF_1, 2))
    for topic, event in events:
        assert decode(topic.event, encode(event)) == event
    stores = [event for topic, event in events if topic is STORES]
    guides = [event for topic, event in events if topic is GUIDES]
    assert len(guides) == 3 * len(stores) == 3 * len(STORES_OF_1)
    assert all(5 <= guide.capacity <= 40 for guide in guides)
    kinds = Counter(store.kind for store in stores)
    assert kinds["full_price"] > kinds["outlet"] > 0


# -- the load


def test_a_load_is_the_same_for_the_same_seed_and_clock():
    assert list(load().inputs(clock())) == list(load().inputs(clock()))
    assert list(load().inputs(clock())) != list(load(seed=2).inputs(clock()))


def test_only_the_times_of_a_load_hang_on_the_clock():
    def timeless(each):
        try:
            event = orjson.loads(each.value or b"")
        except orjson.JSONDecodeError:
            return each.key, each.event_id
        if isinstance(event, dict):
            event = {name: value for name, value in event.items() if not name.endswith("_ms")}
        return each.key, event

    now, later = (list(load().inputs(clock(start))) for start in (1_790_000_000_000, 1_790_086_400_000))
    assert now != later
    assert list(map(timeless, now)) == list(map(timeless, later))


def test_a_load_has_the_leads_it_was_asked_for_and_the_shares_of_everything_else():
    shares = {"reservation_share": 0.2, "duplicate_share": 0.1, "malformed_share": 0.1}
    inputs = list(load(leads=3_000, **shares).inputs(clock()))
    good, broken, seen = Counter(), 0, set()
    for each in inputs:
        if each.event_id in seen:
            good["repeated"] += 1
            continue
        seen.add(each.event_id)
        try:
            event = decode(each.topic.event, each.value)
        except BadEventError:
            broken += 1
        else:
            good[each.topic.name] += 1
            assert each.key == event.member_id.encode()
    assert good["leads"] == 3_000
    for number, share in ((good["reservations"], 0.2), (good["repeated"], 0.1), (broken, 0.1)):
        assert number / len(inputs) == pytest.approx(share, abs=0.02)


def test_members_come_back_and_some_come_often():
    members = Counter(each.key for each in load(leads=5_000).inputs(clock()))
    assert 1_000 < len(members) < 5_000
    assert members.most_common(1)[0][1] > 10


def test_a_hot_city_takes_its_share():
    wishes = [
        orjson.loads(each.value) for each in load(malformed_share=0, hot_city_share=0.8).inputs(clock())
    ]
    near = [
        lead for lead in wishes if abs(lead.get("lat", 0) - 31.23) < 0.5 and abs(lead["lon"] - 121.47) < 0.5
    ]
    assert len(near) > 0.6 * len(wishes)


@pytest.mark.parametrize(
    "shares", [{"duplicate_share": 1.0}, {"malformed_share": -0.1}, {"hot_city_share": 2}]
)
def test_shares_that_leave_no_room_for_leads_are_refused(shares):
    with pytest.raises(ConfigError, match="shares"):
        load(**shares)


@pytest.mark.parametrize("malformed", MALFORMED, ids=lambda malformed: malformed.name)
def test_every_malformed_kind_is_refused_whatever_the_lead_it_was_made_of(malformed):
    for each in load(leads=100, malformed_share=0, reservation_share=0).inputs(clock()):
        with pytest.raises(BadEventError):
            decode(LEADS.event, malformed.spoil(orjson.loads(each.value)))


# -- the orders


def card(number):
    """The offer of a lead that is won, or of a reservation."""
    asked = {"source": {"channel": "live"}, "price_zone": "special", "value_fen": 50_000}
    kinds = {"kind": "lead", "lead": asked} if number % 5 else {"kind": "reservation"}
    about = {"member_id": f"m{number}", "store_id": "s1", "guide_id": f"s1-{number % 3 + 1}"}
    return {"lead_id": f"l{number}", **kinds, **about}


def bought(seed, cards, at_ms=1_790_000_000_000):
    orders = Orders(seed, "demo")
    return [planned for each in cards for planned in orders.won(each, at_ms)]


def test_what_comes_of_a_lead_that_is_won_hangs_on_the_seed_and_the_lead_alone():
    cards = [card(number) for number in range(200)]
    once = bought(1, cards)
    assert once == bought(1, cards) != bought(2, cards)
    backwards = bought(1, cards[::-1])
    assert len(backwards) == len(once)
    assert all(planned in once for planned in backwards)


def test_orders_are_good_records_and_what_led_to_them_comes_first():
    for planned in bought(1, [card(number) for number in range(300)]):
        event = orjson.dumps(planned.event)
        assert encode(decode(planned.topic.event, event))


def test_orders_have_all_that_a_book_must_bear():
    """Several who helped, parts given back, late sales, repeats, and sales of the day before."""
    at_ms = 1_790_000_000_000
    seen, refunds, first, twice = {}, {}, {}, 0
    led = Counter()
    for planned in sorted(bought(1, [card(n) for n in range(2_000)]), key=lambda each: each.at_ms):
        event = planned.event
        led[planned.topic.name, event.get("kind")] += 1
        if planned.topic is not ORDERS:
            continue
        order = event["order_id"]
        if event["status"] == "paid":
            twice += order in seen
            seen[order] = event
        else:
            refunds.setdefault(order, {})[event["refund_id"]] = event
        first.setdefault(order, event["status"])
    assert 1_700 < sum(order.startswith("o.") for order in seen) < 1_900
    before = [event for order, event in seen.items() if order.startswith("y.")]
    assert 500 < len(before) < 800
    # they vest while somebody watches
    assert all(0 < event["occurred_at_ms"] + 86_400_000 - at_ms <= 5_000 for event in before)
    assert twice > 10
    assert sum(status == "refunded" for status in first.values()) > 10
    whole = partial = 0
    for order, those in refunds.items():
        for name in ("amount_fen", "commission_fen"):
            assert sum(event[name] for event in those.values()) <= seen[order][name]
        back = sum(event["amount_fen"] for event in those.values())
        whole, partial = whole + (back == seen[order]["amount_fen"]), partial + len(those) // 2
    assert whole > 50
    assert partial > 20
    assert sum(each["served_by"] != card(int(order[5:]))["guide_id"] for order, each in seen.items()) > 100
    for kind in (("bindings", "bind"), ("bindings", "lend"), ("touches", "live"), ("touches", "view")):
        assert led[kind] > 10, kind
    assert any("partner" in event.get("source", {}) for event in seen.values())


def test_the_policy_of_the_demo_shares_commission_and_vests_after_a_day():
    policy = parse(COMMISSION, 1)
    assert policy.commission.rights_days == 1
    assert policy.commission.base_order[0] == "owner"


# -- publishing and reading back


@asynccontextmanager
async def producer_of(kafka_url):
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap(kafka_url))
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def answer(kafka_url, prefix, *, forgets=()):
    """A worker as simple as can be: every good input waits, every bad one is a dead letter."""
    names = [prefix + topic.name for topic in (LEADS, RESERVATIONS)]
    consumer = AIOKafkaConsumer(
        *names, bootstrap_servers=bootstrap(kafka_url), auto_offset_reset="earliest", fetch_max_wait_ms=20
    )
    await consumer.start()
    sent = []
    try:
        async with producer_of(kafka_url) as producer:
            for partition, end in (await consumer.end_offsets(consumer.assignment())).items():
                while await consumer.position(partition) < end:
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        sent += [
                            await _answer(producer, prefix, record)
                            for record in records
                            if record.value not in forgets
                        ]
            await producer.flush()
    finally:
        await consumer.stop()


async def _answer(producer, prefix, record):
    topic = LEADS if record.topic.endswith(LEADS.name) else RESERVATIONS
    kind = topic.name.removesuffix("s")
    try:
        event = decode(topic.event, record.value)
    except BadEventError:
        place = [("topic", record.topic), ("partition", record.partition), ("offset", record.offset)]
        headers = [(name, str(value).encode()) for name, value in place]
        return await producer.send(prefix + "dead-letters", b"?", headers=headers)
    waits = {
        "brand": event.brand,
        "kind": kind,
        "lead_id": getattr(event, f"{kind}_id"),
        "seq": 1,
        "attempt": 0,
    }
    waits |= {"state": "waiting", "queue": "hq", "at_ms": event.occurred_at_ms}
    return await producer.send(prefix + "assignments", orjson.dumps(waits), key=record.key)


async def test_what_is_simulated_is_read_back_in_full_by_both_readers(embedded_kafka, prefix):
    url = embedded_kafka.url
    await ensure_topics(url, prefix, 4)
    await publish_roster(url, prefix, roster(STORES_OF_1[:10], 1))
    told = []
    counts = await simulate(url, prefix, load(leads=300, malformed_share=0.1), 2_000, told.append)
    assert told == sorted(told)
    assert told[-1] == counts.total
    # A late tick catches up, but nothing runs ahead of the rate.
    assert counts.elapsed_s >= (counts.total - 1) / 2_000
    await answer(url, prefix)
    found = await verify(url, prefix)
    assert found.ok, found.problems
    assert (found.leads_in, found.reservations_in) == (counts.leads, counts.reservations)
    assert found.waiting + found.dead_lettered + found.duplicates_in == counts.total
    assert await verifier.verify(url.removeprefix("kafka://"), prefix) == found


async def test_an_input_that_a_worker_forgets_is_found(embedded_kafka, prefix):
    url, forgotten = embedded_kafka.url, b'{"brand":"demo","lead_id":"forgotten"}'
    await ensure_topics(url, prefix, 4)
    async with producer_of(url) as producer:
        await producer.send_and_wait(prefix + "leads", forgotten)
    await simulate(url, prefix, load(leads=20), 2_000, lambda _: None)
    await answer(url, prefix, forgets=[forgotten])
    found = await verify(url, prefix, patience_s=0.2)
    assert found.lost == 1
    assert "demo/lead/forgotten" in found.problems[0]


async def test_answers_to_the_last_inputs_may_come_a_little_later(embedded_kafka, prefix):
    url = embedded_kafka.url
    await ensure_topics(url, prefix, 4)
    await simulate(url, prefix, load(leads=20), 2_000, lambda _: None)
    async with Tail(url, prefix, Audit()) as tail:
        await tail.read_to_end()
        assert tail.audit.unanswered > 0
        await answer(url, prefix)
        await tail.read_answers(patience_s=10)
    assert tail.audit.report().lost == 0


async def publish_more_than_is_kept(url, prefix):
    """The embedded broker keeps 5 MiB of a partition."""
    async with producer_of(url) as producer:
        for _ in range(9):
            await producer.send_and_wait(prefix + "dead-letters", b"x" * 900_000, partition=0)


async def test_records_that_the_broker_dropped_before_the_audit_began_are_noticed(embedded_kafka, prefix):
    url = embedded_kafka.url
    await ensure_topics(url, prefix, 4)
    await publish_more_than_is_kept(url, prefix)
    for report in (await verify(url, prefix), await verifier.verify(url.removeprefix("kafka://"), prefix)):
        assert report.problems[0].startswith("broker truncated: 1 ")


async def test_records_that_the_broker_dropped_behind_the_audit_are_noticed(embedded_kafka, prefix):
    url = embedded_kafka.url
    await ensure_topics(url, prefix, 4)
    async with Tail(url, prefix, Audit()) as tail:
        await tail.read()
        await publish_more_than_is_kept(url, prefix)
        while tail.audit.next_offset("dead-letters", 0) < 9:
            await tail.read()
    assert tail.audit.report().truncated == 1


@pytest.mark.real
async def test_a_partition_that_lost_all_it_held_is_noticed(real_kafka, prefix):
    """As retention does it in the end; the embedded broker cannot delete records on request."""
    if real_kafka is None:
        pytest.skip("needs a real broker")
    await ensure_topics(real_kafka.url, prefix, 1)
    async with producer_of(real_kafka.url) as producer:
        await producer.send_and_wait(prefix + "leads", b"{}")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap(real_kafka.url))
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(prefix + "leads", 0): RecordsToDelete(1)})
    finally:
        await admin.close()
    assert (await verify(real_kafka.url, prefix)).truncated == 1


async def test_a_wrong_topic_prefix_is_told_and_makes_no_topics(parts, prefix):
    for _ in range(2):
        with pytest.raises(ConfigError, match="there is no topic"):
            await verify(parts.kafka_url, prefix)


async def test_an_audit_of_nothing_is_refused(embedded_kafka, prefix):
    await ensure_topics(embedded_kafka.url, prefix, 4)
    with pytest.raises(ConfigError, match="are empty"):
        await verify(embedded_kafka.url, prefix)


# -- the worker process and the demo


METRICS = """
import http.server, os
class Metrics(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Metrics.asked += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"# HELP\\nleadrouter_ready %d.0\\n" % (Metrics.asked > 1))
    def log_message(self, *_):
        print("asked", Metrics.asked, os.environ["LEAD_ROUTER_GROUP"], flush=True)
port = int(os.environ["LEAD_ROUTER_METRICS_PORT"])
http.server.HTTPServer(("127.0.0.1", port), Metrics).serve_forever()
"""


def test_a_worker_has_started_when_it_says_that_it_is_ready():
    before = dict(os.environ)
    with WorkerProcess({"LEAD_ROUTER_GROUP": "mine"}, (sys.executable, "-c", METRICS)) as worker:
        assert "asked 2 mine" in worker.log
        assert worker.url == f"http://127.0.0.1:{worker.port}/metrics"
    assert dict(os.environ) == before
    assert not worker.running


def test_a_worker_that_dies_at_once_is_told_with_its_last_words():
    with pytest.raises(ConfigError, match=r"(?s)the worker did not start.*last words"):
        WorkerProcess({}, (sys.executable, "-c", "raise SystemExit('last words')")).__enter__()


@pytest.fixture
def _sigterm():
    """The demo takes SIGTERM for itself."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_sigterm")
def test_the_demo_routes_and_its_audit_is_ok(capsys):
    status = demo(Options(leads=200, as_json=True), Settings())
    out = capsys.readouterr().out.splitlines()
    found = orjson.loads(out[-1])
    assert (status, found["audit"], found["problems"]) == (0, "ok", [])
    assert list(found)[:20] == [
        *("seed", "leads_in", "reservations_in", "assigned", "waiting", "dead_lettered", "lost"),
        *("double_assigned", "over_capacity", "leads_per_s", "p50_ms", "p99_ms", "offsets"),
        *("reoffered", "reminded", "expired", "waiting_max_age_s", "no_shows", "slots_oversold", "accepted"),
    ]
    total = found["leads_in"] + found["reservations_in"]
    # a second lead of a member for the same is closed, merged into the first
    ends = ("assigned", "waiting", "closed", "dead_lettered", "duplicates_in", "changes_in")
    assert sum(found[end] for end in ends) == total
    assert found["accepted"] > 100
    assert all(found[name] > 0 for name in ("reoffered", "reminded", "expired", "no_shows", "closed"))
    assert (found["slots_oversold"], found["unaccounted"]) == (0, 0)
    assert list(found)[20:29] == [
        *("orders", "refunds", "postings", "commission_fen", "pending_fen", "earned_fen", "refunded_fen"),
        *("unbalanced", "ledger_difference_fen"),
    ]
    assert (found["unbalanced"], found["ledger_difference_fen"], found["unposted"]) == (0, 0, 0)
    assert all(found[name] > 0 for name in list(found)[20:27])
    assert found["postings"] >= 2 * found["orders"]
    held_fen = found["pending_fen"] + found["earned_fen"]
    assert held_fen == found["commission_fen"] - found["refunded_fen"]
    told = "\n".join(out)
    assert "postings on top, each sums to zero" in told
    assert re.search(r"earnings: c\d\ds\d\d-\d today \d", told)
    # then one order's story, as it is shown on the command line
    assert re.search(r"^order [oy]\.\S+ of brand demo, paid", told, re.MULTILINE)
    assert "after the split (the overlay)" in told


@pytest.mark.usefixtures("_sigterm")
def test_a_demo_without_orders_says_nothing_of_money(capsys):
    status = demo(Options(leads=50, orders=False, as_json=True), Settings())
    *told, last = capsys.readouterr().out.splitlines()
    found = orjson.loads(last)
    assert (status, found["orders"], found["postings"]) == (0, 0, 0)
    assert not re.search("commission|earn", "\n".join(told))


@pytest.mark.usefixtures("_sigterm")
def test_the_demo_ends_and_fails_when_a_worker_answers_nothing(capsys, monkeypatch):
    """It says that it is ready, hangs, and must not hang the demo with it."""
    silent = partial(WorkerProcess, argv=(sys.executable, "-c", METRICS))
    monkeypatch.setattr("router.demo.run.WorkerProcess", silent)
    monkeypatch.setattr("router.demo.run._PATIENCE_S", 0.3)
    status = demo(Options(leads=1_000_000, rate_per_s=100, as_json=True), Settings())
    found = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert (status, found["audit"]) == (1, "failed")
    assert found["lost"] == found["leads_in"] + found["reservations_in"] > 0


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_one_line_on_a_terminal_and_plain_lines_elsewhere():
    for out, expected in ((Terminal(), "\r\x1b[Ka\r\x1b[Kb\n"), (io.StringIO(), "a\nb\n")):
        line = ProgressLine(out)
        assert line.due
        line.show("a")
        assert not line.due
        line.show("b")
        line.end()
        assert out.getvalue() == expected


def test_money_is_told_in_yuan_to_the_fen():
    assert [yuan(fen) for fen in (0, 5, -5, 123_456)] == ["0.00", "0.05", "-0.05", "1,234.56"]
    assert any("pending" in line and "0.00" in line for line in money(Audit().report()))


def test_a_guide_reads_today_this_period_pending_and_earned_in_one_hash():
    held = {"pending|server": "1", "pending|owner": "200", "earned|server": "30", "p|2026-10": "9"}
    held |= {"p|2026-11": "231", "day": "2026-11-29 201"}
    assert earnings("g1", held) == "g1 today 2.01, in 2026-11 2.31; pending 2.01, earned 0.30"
    assert earnings("g1", {}) == "g1 today 0.00, in  0.00; pending 0.00, earned 0.00"


def test_the_summary_gives_the_verdict_in_words():
    audit = Audit()
    assert "audit: ok" in summary(audit.report())
    audit.feed("leads", 0, 0, None, b"{}", (), time.time_ns() // 1_000_000)
    assert "audit: FAILED\n  lost: 1 inputs" in summary(audit.report())

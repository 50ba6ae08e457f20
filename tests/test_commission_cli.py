"""``lead-router commission``: what the book tells people, and that nothing of it can be changed unseen."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import time
from types import SimpleNamespace
from uuid import uuid4

import orjson
import pytest
import redis as client
from click.testing import CliRunner
from confluent_kafka import Producer
from msgspec.structs import replace

from router.cli import main
from router.commission import words
from router.local import EmbeddedRedis
from router.rules.entitlement import shared
from router.rules.entries import give_back, sell
from router.rules.extract import Extract
from router.rules.postings import Page, identity, numbered
from router.rules.proof import idle
from router.rules.standing import UNKNOWN, Refund
from router.rules.statement import statement
from router.rules.story import story
from router.state import keys
from router.topology import ensure_topics
from tests.commission_world import proof
from tests.commission_world import sale as inputs_with
from tests.ledger_world import DAY_MS, NEXT, PERIOD, RULES, book_of, line, refund, sale
from tests.lifecycle_world import TOML, guide, policy, store
from tests.parts import RealRedis
from tests.world import World
from topics.bindings import Binding
from topics.catalog import BINDINGS, COMMISSIONS, GUIDES, LEDGER_COMMANDS, ORDERS, POLICIES, STORES
from topics.codec import encode
from topics.commissions import Posting

COPIED = (STORES, GUIDES, POLICIES, COMMISSIONS, LEDGER_COMMANDS, ORDERS)


async def many_sales(world):
    """Orders in every state: paid and then given back, settled, disputed, given back in part, pending."""
    await world.put(sale("back", 1000), sale("frozen", 500), sale("settled", 300))
    await world.command("dispute", order_id="frozen", reason="who served?\x1b[2J\n")
    await world.days(8)
    await world.put(sale("part", 1001, occurred_at_ms=world.arbiter.now))
    await world.put(refund("r1", 333, "part", occurred_at_ms=world.arbiter.now + 1000))
    moved = (line("earned", "g3", 70), line("commission", "group", -70, "group"))
    await world.command("adjust", order_id="part", reason="a visit was forgotten", lines=moved)
    await world.days(3)
    await world.command("close", period=PERIOD)
    await world.command("pay", period=PERIOD, lines=(line("settled", "g2", 0),))
    await world.put(refund("r2", 1000, "back", occurred_at_ms=world.arbiter.now))
    await world.put(sale("late", 200, occurred_at_ms=world.arbiter.now))
    await world.put(refund("early", 10, "never", occurred_at_ms=world.arbiter.now))


def copied(log, kafka_url, prefix):
    """Publish a log to a broker, under a prefix of its own, with its times."""
    asyncio.run(ensure_topics(kafka_url, prefix, 2))
    producer = Producer({"bootstrap.servers": kafka_url.removeprefix("kafka://"), "log_level": 0})
    for topic in COPIED:
        for each in log.get(topic.name, ()):
            producer.produce(prefix + topic.name, each.value, each.key, timestamp=each.timestamp)
    assert producer.flush(30) == 0


class Desk:
    """A book on a broker and in Redis, and the command line beside it."""

    def __init__(self, kafka, server, story):
        self.kafka, self.server, self.prefix = kafka, server, f"c{uuid4().hex[:12]}."
        self.log = {}

        async def kept(world):
            await story(world)
            self.log |= world.log
            self.now = SimpleNamespace(time_ns=lambda: world.arbiter.now * 1_000_000)

        book_of(server, kept)
        copied(self.log, kafka.url, self.prefix)

    def run(self, *options, status=0, prefix=None, redis=True, both=False):
        environment = {
            "LEAD_ROUTER_KAFKA_URL": self.kafka.url,
            "LEAD_ROUTER_REDIS_URL": self.server.url if redis else "",
            "LEAD_ROUTER_TOPIC_PREFIX": prefix or self.prefix,
            "LEAD_ROUTER_PARTITIONS": "2",
        }
        brand = [] if "verify" in options else ["--brand", "b"]
        with pytest.MonkeyPatch.context() as patch:
            # the story's own time: nothing hangs on the day on which it is told
            patch.setattr("router.rebuild.time", self.now)
            patch.setattr("router.cli.book.time", self.now)
            run = CliRunner().invoke(main, ["commission", *options, *brand], env=environment)
        assert run.exit_code == status, run.output + repr(run.exception)
        return run.output if status or both else run.stdout

    def json(self, *options, **more):
        return orjson.loads(self.run(*options, "--json", **more))

    def tampered(self, change):
        """A copy of the topics in which one record is another."""
        prefix = f"c{uuid4().hex[:12]}."
        postings = [each._replace(value=change(each.value)) for each in self.log[COMMISSIONS.name]]
        copied(self.log | {COMMISSIONS.name: postings}, self.kafka.url, prefix)
        return prefix


def extract_of(desk, brand, names=()):
    book = Extract(brand, names)
    for each in desk.log[COMMISSIONS.name]:
        book.posting(each.value)
    for each in desk.log[LEDGER_COMMANDS.name]:
        book.command(each.value)
    return book


@pytest.fixture(scope="module")
def redis():
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(scope="module")
def desk(embedded_kafka, redis):
    return Desk(embedded_kafka, redis, many_sales)


# --- show --------------------------------------------------------------------------------------------------


def test_show_tells_the_sale_both_settlements_and_why(desk):
    said = desk.run("show", "part")
    for part in (
        "order part of brand b, paid 2026-09-",
        "sale 100.10 yuan, commission 10.01 yuan",
        "at store s, served by g2",
        "rule thirds (fixed_by_role)",
        "can be given back for 7 days, until",
        "g1 is bound to the member",
        "20.00 % by rule thirds",
        "50.00 % by rule thirds",
        "refund r1",
        "6.68 yuan of commission remain",
        "pending",
        f"reverses {identity('base', 'b', 'part')}",
        "because a visit was forgotten",
    ):
        assert part in said, part
    assert max(map(len, said.splitlines())) < 200


def test_what_show_says_sums_to_the_commission_and_to_what_remains(desk):
    for order_id in ("part", "back", "frozen", "settled", "late"):
        told = desk.json("show", order_id)
        commission_fen = told["order"]["commission_fen"]
        assert sum(each["fen"] for each in told["base"]) == commission_fen
        assert sum(each["fen"] for each in told["shared"]) == commission_fen
        left = commission_fen - sum(each["commission_fen"] for each in told["refunds"])
        assert told["remaining_fen"] == left == sum(each["entitled_fen"] for each in told["now"])
        assert [sum(each["balance"].values()) for each in told["now"]] == [
            each["entitled_fen"] for each in told["now"]
        ]
        assert told["faults"] == []


@pytest.mark.parametrize(
    ("order_id", "state", "why"),
    [
        ("late", "pending", "can be given back until"),
        ("frozen", "pending", "not earned until it is released"),
        ("settled", "settled", f"settled in {PERIOD}, not paid yet"),
    ],
)
def test_show_tells_where_the_money_lies_and_why_it_is_not_paid(desk, order_id, state, why):
    told = {each["party"]: each for each in desk.json("show", order_id)["now"]}
    assert (told["g1"]["state"], told["g1"]["not_yet"][: len(why)]) == (state, why)
    assert why in desk.run("show", order_id)


def test_show_tells_a_dispute_with_its_reason(desk):
    assert "frozen: disputed by ann on" in (said := desk.run("show", "frozen"))
    assert "who served?" in said


def test_text_from_outside_stays_on_its_line_and_moves_no_cursor(desk):
    told = words.story(story(extract_of(desk, "b"), "frozen", 0))
    assert all(each.isprintable() for each in told)
    assert any("who served? [2J" in each for each in told)


def test_show_names_who_holds_what_is_not_theirs(desk):
    def to_another(value):
        posting = orjson.loads(value)
        if posting["kind"] == "overlay" and posting["order_id"] == "settled":
            [mine] = [each for each in posting["lines"] if each["party"] == "g2"]
            mine["party"] = "g3"
        return orjson.dumps(posting)

    said = desk.run("show", "settled", prefix=desk.tampered(to_another), status=1)
    assert "WRONG: g3 (server) has 150 fen, not 0" in said
    assert "WRONG: g2 (server) has 0 fen, not 150" in said


def test_show_tells_what_was_paid_and_is_owed_back(desk):
    told = {each["party"]: each["balance"] for each in desk.json("show", "back")["now"]}
    assert told["g2"] == {"pending": 0, "earned": 0, "settled": 0, "paid": 500, "receivable": -500}
    assert "5.00 paid, -5.00 owed back" in desk.run("show", "back")


def test_an_order_that_is_not_there_is_told_with_the_refund_that_waits_for_it(desk):
    assert desk.run("show", "nothing") == "order nothing is not in the book of brand b\n"
    assert "its refund early came before it and waits" in desk.run("show", "never")
    assert desk.json("show", "nothing") is None


# --- statement ---------------------------------------------------------------------------------------------


def test_a_statement_has_a_line_for_each_sale_and_totals(desk):
    told = desk.json("statement", "g2")
    lines = {each["order_id"]: each for each in told["lines"]}
    assert lines.keys() == {"back", "frozen", "settled", "part", "late"}
    assert lines["frozen"]["disputed"]
    assert lines["back"]["state"] == "paid, receivable" or "owed back" in lines["back"]["state"]
    assert (lines["part"]["sold_fen"], lines["part"]["back_fen"]) == (1001, 333)
    assert lines["settled"]["not_yet"] == "" or lines["settled"]["state"] == "paid"
    for place, fen in told["total"]["balance"].items():
        assert fen == sum(each["balance"][place] for each in told["lines"])
    assert told["of"] == ["party"]


def test_a_statement_is_what_redis_holds(desk):
    """Of every party, store and region that has earnings, account by account."""
    names = ["g1", "g2", "g3", "boss", "s", "East"]
    with client.Redis.from_url(desk.server.url) as held:
        for name in names:
            told = desk.json("statement", name)
            for kind in told["of"]:
                total = (told["total"] if kind == "party" else told["parties_total"])["balance"]
                fields = held.hgetall(keys.earnings("b", kind, name))
                sums = dict.fromkeys(total, 0)
                for field, value in fields.items():
                    if (place := field.decode().partition("|")[0]) in sums:
                        sums[place] += int(value)
                assert sums == total, (name, kind)
    assert desk.json("statement", "s")["of"] == ["party", "store"]
    assert desk.json("statement", "East")["of"] == ["region"]


def test_a_statement_of_a_closed_period_stays_what_it_was(desk):
    """It says what was pending then, and what has become of it since."""
    then = desk.json("statement", "g2", "--period", PERIOD)
    lines = {each["order_id"]: each for each in then["lines"]}
    assert lines.keys() == {"back", "frozen", "settled", "part"}
    assert lines["back"]["balance"]["settled"] == 500
    assert lines["back"]["not_yet"] == f"paid since, in {NEXT}"
    assert "disputed" in lines["frozen"]["not_yet"]
    now = desk.json("statement", "g2", "--period", NEXT)
    assert {each["order_id"]: each["moved_fen"] for each in now["lines"]}["back"] == -500
    both = then["total"]["moved_fen"] + now["total"]["moved_fen"]
    assert both == sum(desk.json("statement", "g2")["total"]["balance"].values())


def test_a_statement_as_csv_has_every_line_in_fen_and_no_formula(desk):
    rows = list(csv.DictReader(io.StringIO(desk.run("statement", "g2", "--csv"))))
    told = desk.json("statement", "g2")
    assert [int(row["pending_fen"]) for row in rows] == [each["balance"]["pending"] for each in told["lines"]]
    assert [row["order_id"] for row in rows] == [each["order_id"] for each in told["lines"]]
    assert all(row["not_yet"] for row in rows if row["state"] == "pending")


def test_a_statement_in_words_tells_refunds_disputes_and_adjustments(desk):
    said = desk.run("statement", "g2")
    for part in ("disputed by ann", "3.33 of 10.01 commission was given back", "owed back", "all together"):
        assert part in said, part
    assert "a visit was forgotten" in desk.run("statement", "g3")
    assert "everybody of store s" in desk.run("statement", "s")
    assert "everybody of region East" in desk.run("statement", "East")


def test_who_has_nothing_is_told_so(desk):
    assert desk.run("statement", "nobody") == "nothing is posted for nobody in brand b\n"
    assert desk.json("statement", "nobody")["lines"] == []
    assert desk.run("statement", "nobody", "--csv").count("\n") == 1


def test_an_extract_by_a_name_gives_the_same_statement_as_the_whole_book(desk):
    """Postings that do not say the name are not even decoded; whoever it is, nothing is missed by that."""
    for name in ("g1", "g2", "g3", "boss", "s", "East"):
        for period in (None, PERIOD, NEXT):
            whole, named = (extract_of(desk, "b", names) for names in ((), (name,)))
            assert statement(named, name, period, 0) == statement(whole, name, period, 0)
            assert (name == "East") == (not statement(named, name, None, 0).lines)
    assert len(extract_of(desk, "b", ("g3",)).postings) < len(extract_of(desk, "b").postings)


def book_with(*drafts):
    book = Extract("b")
    for seq, draft in enumerate(drafts, 1):
        book.posting(numbered(draft.body, seq))
    return book


def test_who_is_paid_by_the_base_and_keeps_nothing_has_no_line():
    inputs = inputs_with(proof("binding", "g1", 100), rule={"kind": "winner_served"}, served_by="g2",
                         base_order=["owner"])  # fmt: skip
    book = book_with(*sell(Page("b", "", 8), UNKNOWN, inputs).postings)
    assert statement(book, "g1", None, 0).lines == ()
    [mine] = statement(book, "g2", None, 0).lines
    assert mine.balance.pending == 10_000


def test_income_without_action_is_what_remains_of_it_after_refunds_to_the_fen():
    """Of many small sales: what was given back is not split again."""
    page, drafts, remaining = Page("b", "", 8), [], 0
    rule = {"kind": "fixed_by_role", "shares": {"owner": 3333, "server": 3333, "store": 3334}}
    for fen in range(3, 60):
        inputs = inputs_with(proof("binding", "g1", 100), rule=rule, served_by="g2", store_id="s1", fen=fen,
                             order_id=f"o{fen}", base_order=["owner"])  # fmt: skip
        sold = sell(page, UNKNOWN, inputs)
        back = give_back(page, sold.standing, inputs, Refund("r", 2, 20), inputs["order"]["occurred_at_ms"])
        drafts += [*sold.postings, *back.postings]
        remaining += sum(each.fen for each in shared(inputs, fen - 2) if each.party == "g1")
    book = book_with(*drafts)
    [row] = idle(book.postings[0].period, book.postings)
    assert (row.today, row.split) == (sum(range(1, 58)), remaining)


def test_a_word_that_json_escapes_finds_its_postings():
    parties = {"g": {"region": '华"东\n'}}
    given = tuple(line("earned", who, fen) for who, fen in (("g", 5), ("x", -5)))
    made = Posting(posting_id="a1", book_seq=1, brand="b", kind="adjust", period=PERIOD, occurred_at_ms=1,
                   lines=given, rule_version="", inputs={"parties": parties}, order_id="a1")  # fmt: skip
    book = Extract("b", ('华"东\n',))
    book.posting(encode(made))
    assert statement(book, '华"东\n', None, 0).parties_total.balance.earned == 5


def test_what_stands_twice_in_the_log_counts_once_and_other_brands_do_not(desk):
    book = extract_of(desk, "b")
    for each in desk.log[COMMISSIONS.name]:
        book.posting(each.value)
        book.posting(
            each.value.replace(b'"brand":"b"', b'"brand":"c"').replace(b'"posting_id":"', b'"posting_id":"c')
        )
    assert statement(book, "g2", None, 0) == statement(extract_of(desk, "b"), "g2", None, 0)


def test_no_cell_of_a_csv_is_a_formula(desk):
    """An id may begin with a sign that makes a sheet compute."""
    told = statement(extract_of(desk, "b"), "g2", None, 0)
    for hostile in ("@SUM(A1)", "-1", "=1", "+1"):
        lines = (replace(told.lines[0], order_id=hostile, why=hostile),)
        [row] = csv.DictReader(io.StringIO(words.statement_csv(replace(told, lines=lines))))
        assert (row["order_id"], row["why"]) == (f"'{hostile}", f"'{hostile}")


def test_records_that_are_no_postings_are_counted_and_do_not_stop_the_reading(desk):
    first = []

    def broken(value):
        first.append(value)
        return b'{"order_id":"part","g2"' if len(first) == 1 else value

    said = desk.run("statement", "g2", prefix=desk.tampered(broken), both=True)
    assert "1 records are no postings: lead-router commission verify names them" in said


# --- prove, idle -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [PERIOD, NEXT])
def test_prove_finds_the_base_the_same_with_and_without_the_split(desk, period):
    told = desk.json("prove", "--period", period)
    assert (told["ok"], told["difference"], told["overlay"], told["faults"]) == (True, 0, 0, [])
    assert [row["difference"] for row in told["rows"]] == [0] * len(told["rows"])
    assert told["group_without"] == told["group_book"]
    assert "ok, the group's own settlement is the same" in desk.run("prove", "--period", period)


def test_prove_counts_sales_less_refunds(desk):
    """1000 + 500 + 300 + 1001 of commission were sold in the period, 333 given back."""
    assert desk.json("prove", "--period", PERIOD)["group_without"] == 2468
    assert desk.json("prove", "--period", NEXT)["group_without"] == 200 - 1000


def test_a_base_posting_for_somebody_else_or_a_split_that_pays_fails_the_proof(desk):
    def to_another(value):
        posting = orjson.loads(value)
        if posting["kind"] == "base" and posting["order_id"] == "settled":
            posting["lines"][1]["party"] = "g3"
        return orjson.dumps(posting)

    prefix = desk.tampered(to_another)
    assert "prove: FAILED, 6.00 yuan differ" in desk.run("prove", "--period", PERIOD, prefix=prefix, status=1)

    def to_the_split(value):
        posting = orjson.loads(value)
        if posting["kind"] == "overlay" and posting["order_id"] == "settled":
            posting["lines"][0]["account"] = "commission"
        return orjson.dumps(posting)

    said = desk.run("prove", "--period", PERIOD, prefix=desk.tampered(to_the_split), status=1)
    assert f"posting {identity('overlay', 'b', 'settled')} of order settled is of the split" in said


def test_a_period_without_sales_is_told(desk):
    assert desk.run("prove", "--period", "2020-01").startswith("no sale and no refund is posted to 2020-01")
    assert desk.run("idle", "--period", "2020-01").startswith("nobody in brand b earned without action")


def test_idle_tells_whose_income_came_without_action(desk):
    """The bound guide did nothing: as the group settles today all is theirs, after the split a fifth."""
    [row] = desk.json("idle", "--period", PERIOD)
    assert (row["guide"], row["region"], row["today"]) == ("g1", "East", 2468)
    assert 0 < row["split"] < row["today"] / 4
    assert "24.68" in desk.run("idle", "--period", PERIOD)


# --- verify ------------------------------------------------------------------------------------------------


def test_verify_works_out_every_posting_and_finds_no_difference(desk):
    told = desk.json("verify")
    postings = len({orjson.loads(each.value)["posting_id"] for each in desk.log[COMMISSIONS.name]})
    assert (told["ok"], told["faults"], told["redis"]) == (True, [], {})
    assert told["brands"]["b"]["postings"] == postings
    assert [seal["period"] for seal in told["brands"]["b"]["seals"]] == [PERIOD]
    assert f"verify: ok, {postings} postings worked out again, difference zero" in desk.run("verify")
    assert "not compared" in desk.run("verify", redis=False)


def posting_of(value, kind, order_id):
    posting = orjson.loads(value)
    return posting["kind"] == kind and posting.get("order_id") == order_id


@pytest.mark.parametrize(
    ("kind", "order_id", "found", "put"),
    [
        ("base", "settled", b'"fen":300', b'"fen":200'),
        ("overlay", "frozen", b'"commission_fen":500', b'"commission_fen":400'),
        ("reversal", "part", b'"rule_version":"', b'"rule_version":"0'),
        ("vest", "settled", b'"period":"2026-09"', b'"period":"2026-08"'),
        ("pay", "back", b'"actor":"ann"', b'"actor":"bob"'),
        ("settle", "back", b'"party":"g2"', b'"party":"g3"'),
        ("base", "late", b'"kind":"base"', b'"kind":"Base"'),
    ],
)
def test_t9_a_byte_that_is_changed_in_the_archive_makes_verify_name_the_posting(
    desk, kind, order_id, found, put
):
    named = []

    def flip(value):
        if named or not posting_of(value, kind, order_id):
            return value
        assert found in value
        named.append(orjson.loads(value)["posting_id"])
        return value.replace(found, put, 1)

    said = desk.run("verify", prefix=desk.tampered(flip), redis=False, status=1)
    assert f"posting {named[0]}: " in said
    assert "verify: FAILED" in said


def test_verify_names_a_balance_in_redis_that_is_not_what_the_postings_come_to(desk):
    key = keys.earnings("b", "party", "g2")
    with client.Redis.from_url(desk.server.url) as held:
        held.hincrby(key, "paid|server", 1)
        try:
            said = desk.run("verify", status=1)
        finally:
            held.hincrby(key, "paid|server", -1)
    assert f"{key}: paid|server: is b'" in said
    assert "1 keys of redis" in said


# --- wrong arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("show", "a/b"), "order 'a/b' is no id"),
        (("statement", "g2", "--period", "2026-13"), "period '2026-13' is no month"),
        (("statement", "g2", "--csv", "--json"), "--csv and --json"),
        (("prove", "--period", "September"), "period 'September' is no month"),
        (("close", "2026-9"), "period '2026-9' is no month"),
        (("close", PERIOD, "--actor", "a/b"), "actor: "),
        (("pay", "--period", PERIOD, "--to", "g2"), "to 'g2': is not ROLE:PARTY"),
        (("adjust", "--line", "earned:server:g2", "--reason", "x"), "is not ACCOUNT:ROLE:PARTY:FEN"),
        (("adjust", "--line", "earned:server:g2:1.5", "--reason", "x"), "fen is a whole number"),
        (("adjust", "--line", "earned:server:a/b:1", "--reason", "x"), "lines[0].party: "),
    ],
)
def test_what_is_wrong_with_an_argument_is_said_by_its_name(desk, options, what):
    assert what in desk.run(*options, status=2)


def test_a_book_without_postings_is_told_and_one_that_is_not_there_is_refused(desk):
    """Who only reads creates no topic."""
    prefix = f"c{uuid4().hex[:12]}."
    for options in (("show", "part"), ("statement", "g2"), ("prove", "--period", PERIOD), ("verify",)):
        said = desk.run(*options, prefix="nobody.", redis=False, status=2)
        assert "there is no topic nobody.leads: is LEAD_ROUTER_TOPIC_PREFIX right?" in said
    copied({}, desk.kafka.url, prefix)
    assert "no posting at all is there yet" in desk.run("show", "part", prefix=prefix, redis=False)
    assert "the book is empty" in desk.run("verify", prefix=prefix, redis=False)


def test_no_broker_is_named():
    run = CliRunner().invoke(main, ["commission", "show", "o"], env={"LEAD_ROUTER_KAFKA_URL": ""})
    assert (run.exit_code, "LEAD_ROUTER_KAFKA_URL is not set" in run.output) == (2, True)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("release", "settled"), "order settled of brand b is not disputed"),
        (("pay", "--period", NEXT), f"period: {NEXT} of brand b is not closed"),
        (("close", "2026-08"), "period: 2026-08 is before 2026-10"),
    ],
)
def test_what_the_book_would_refuse_is_not_sent(desk, options, what):
    assert what in desk.run(*options, status=1)


def test_a_period_that_was_closed_shows_its_seal(desk):
    assert re.search(rf"{PERIOD} of brand b was closed before: \d+ postings.*chain [0-9a-f]{{64}}",
                     desk.run("close", PERIOD))  # fmt: skip


def test_nobody_at_work_is_told_within_the_wait(desk):
    """A broker of its own topics: the command stays there."""
    prefix = desk.tampered(lambda value: value)
    said = desk.run("close", NEXT, "--wait", "1", prefix=prefix, status=75)
    assert f"no seal of {NEXT} within 1 s: is a worker running?" in said
    line_of = "earned:server:g2:5", "commission:group:group:-5"
    said = desk.run("adjust", "--line", line_of[0], "--line", line_of[1], "--reason", "x", "--wait", "1",
                    prefix=prefix, status=75)  # fmt: skip
    assert "is a worker running?" in said


# --- with a worker -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def shop(request):
    """A worker with a book: one sale whose rights window is over, one that is fresh."""
    kafka = None if request.param == "embedded" else request.getfixturevalue("real_kafka")
    redis_type = RealRedis if kafka else EmbeddedRedis
    kafka = kafka or request.getfixturevalue("embedded_kafka")
    with redis_type() as redis, World(kafka.url, redis.url, f"w{uuid4().hex[:12]}.") as world:
        boss = guide("boss", capacity=0, role="manager")
        people = [guide(name, capacity=5) for name in ("g1", "g2")]
        rules = policy(toml=TOML + RULES)
        world.roster([(STORES, store(region="East")), *((GUIDES, each) for each in (*people, boss)),
                      (POLICIES, rules)])  # fmt: skip
        world.worker.start()
        now_ms = time.time_ns() // 1_000_000
        bound = Binding(command_id="bound", member_id="m", brand="b", occurred_at_ms=now_ms - 30 * DAY_MS,
                        kind="bind", guide_id="g1")  # fmt: skip
        world.publish(BINDINGS, bound)
        world.until(lambda: world.redis.exists(keys.member("b", "m")), "a binding")
        world.publish(ORDERS, sale("old", 1000, occurred_at_ms=now_ms - 10 * DAY_MS),
                      sale("new", 700, occurred_at_ms=now_ms))  # fmt: skip
        earned = ("b", "party", "g2")
        world.until(lambda: world.redis.hexists(keys.earnings(*earned), "earned|server"), "earned")
        yield world


def asked(world, *options, status=0):
    run = CliRunner().invoke(
        main,
        ["commission", *options, *([] if "verify" in options else ["--brand", "b"])],
        env=world.environment,
    )
    assert run.exit_code == status, run.output + repr(run.exception) + world.said()
    return run.output


def test_a_period_is_closed_paid_corrected_and_proved_from_the_command_line(shop):
    now = time.gmtime(time.time() + 8 * 3600)
    period, after = f"{now.tm_year}-{now.tm_mon:02}", f"{now.tm_year + 1}-01"
    assert "has not begun" in asked(shop, "close", after, status=1)
    said = asked(shop, "close", period)
    assert f"{period} of brand b is closed: " in said
    assert "was closed before" in asked(shop, "close", period)
    asked(shop, "pay", "--period", period, "--to", "server:g2")
    shop.until(lambda: shop.redis.hget(keys.earnings("b", "party", "g2"), "paid|server") == b"500", "paid")
    lines = ("--line", "earned:server:g2:9000", "--line", "commission:group:group:-9000")
    assert "checker" in asked(shop, "adjust", *lines, "--reason", "bonus", status=1)
    said = asked(shop, "adjust", *lines, "--reason", "bonus", "--checker", "zoe", "--order", "old")
    assert "posted to " in said
    assert "checked by zoe, because bonus" in asked(shop, "show", "old")
    assert "frozen when it comes" in asked(shop, "dispute", "to-come", "--reason", "whose?")
    asked(shop, "dispute", "new", "--reason", "whose?")
    assert "disputed by" in asked(shop, "show", "new")
    asked(shop, "release", "new", "--reason", "settled among us")
    assert "disputed by" not in asked(shop, "show", "new")
    assert "prove: ok" in asked(shop, "prove", "--period", period)
    assert "verify: ok" in asked(shop, "verify")

"""``lead-router commission show``, ``prove``, ``idle``, ``verify``: nothing is changed unseen."""

from __future__ import annotations

import orjson
import pytest
import redis as client

from router.commission import words
from router.local import EmbeddedRedis
from router.rules.money.postings import identity
from router.rules.money.story import story
from router.state import keys
from tests.commission_desk import Desk, extract_of, many_sales
from tests.ledger_world import NEXT, PERIOD
from topics.catalog import COMMISSIONS


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


def test_show_tells_what_a_part_is_made_of_who_has_none_and_what_each_posting_moved(desk):
    said = desk.run("show", "frozen")
    assert "number  posting" in said
    assert "times are UTC, a period is a month by the clock of the book" in said
    [overlay] = [line for line in said.splitlines() if "  overlay  " in line]
    assert "from g1 to " in overlay
    base = [line for line in said.splitlines() if "  base  " in line]
    assert "from group to g1" in base[0]


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


def test_verify_says_when_redis_is_ahead_of_the_log(desk):
    """Workers may be posting: what differs then is no verdict yet."""
    with client.Redis.from_url(desk.server.url) as held:
        held.hincrby(keys.book_head("b"), "seq", 1)
        try:
            said = desk.run("verify", status=1)
        finally:
            held.hincrby(keys.book_head("b"), "seq", -1)
    assert "let the workers be idle" in said


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
    assert "idle" not in said

"""``lead-router commission statement``: what a party has, and why it is not paid yet."""

from __future__ import annotations

import csv
import io

import pytest
import redis as client
from msgspec.structs import replace

from router.commission import words
from router.local import EmbeddedRedis
from router.rules.money.entries import give_back, sell
from router.rules.money.extract import Extract
from router.rules.money.postings import Page, numbered
from router.rules.money.proof import idle
from router.rules.money.standing import UNKNOWN, Refund
from router.rules.money.statement import statement
from router.state import keys
from tests.commission_desk import Desk, extract_of, many_sales
from tests.commission_world import proof, shared
from tests.commission_world import sale as inputs_with
from tests.ledger_world import NEXT, PERIOD, line
from topics.catalog import COMMISSIONS
from topics.codec import encode
from topics.commissions import Posting


@pytest.fixture(scope="module")
def redis():
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(scope="module")
def desk(embedded_kafka, redis):
    return Desk(embedded_kafka, redis, many_sales)


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
                held_as = "party-store" if (kind, name) == ("party", "s") else kind
                fields = held.hgetall(keys.earnings("b", held_as, name))
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
        back = give_back(
            page,
            sold.standing,
            inputs,
            Refund("r", 2, 20),
            inputs["order"]["occurred_at_ms"],
            inputs["order"]["member_id"],
        )
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

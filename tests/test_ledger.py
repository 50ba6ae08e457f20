"""Money on a real server: what sales, refunds and commands become, once, whatever happens in between."""

from __future__ import annotations

import orjson
import pytest

from router.local import EmbeddedRedis
from router.rules.money.extract import Extract
from router.rules.money.postings import identity
from router.rules.money.standing import PARKED_MAX
from router.state import keys
from tests.ledger_world import (
    BEGIN_MS,
    DAY_MS,
    NEXT,
    OF_1000,
    PERIOD,
    RULES,
    book_of,
    line,
    refund,
    sale,
)
from tests.lifecycle_world import TOML, policy
from topics.catalog import COMMISSIONS, GUIDES, LEDGER_COMMANDS, ORDERS
from topics.members import Member


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


async def sold_and_paid(world, *orders):
    """Orders on their whole way: sold, vested, settled by a close, paid."""
    await world.put(*orders or [sale()])
    await world.days(8)
    await world.command("close", period=PERIOD)
    await world.command("pay", period=PERIOD)


def test_m2_every_posting_and_the_whole_book_come_to_nothing_at_every_point(server):
    async def story(world):
        await sold_and_paid(world, sale(), sale("p", 333))
        await world.put(refund("r", 200))
        total = 0
        for posting in world.postings():  # in the order of their numbers
            total += sum(each["fen"] for each in posting["lines"])
            assert total == 0
        assert await world.money.imbalance_fen(["b"]) == 0
        kinds = [posting["kind"] for posting in world.postings()]
        assert kinds[:4] == ["base", "overlay", "base", "overlay"]

    book_of(server, story)


def test_the_base_is_posted_as_the_group_settles_today_and_the_split_on_top_comes_to_nothing(server):
    async def story(world):
        await world.put(sale())
        [base], [overlay] = world.postings("base"), world.postings("overlay")
        assert {(each["party"], each["fen"]) for each in base["lines"]} == {("group", -1000), ("g1", 1000)}
        assert sum(each["fen"] for each in overlay["lines"]) == 0
        assert world.balances("pending") == OF_1000
        assert base["inputs"] == overlay["inputs"]

    book_of(server, story)


def test_m5_a_posting_id_posts_once_and_a_repeat_is_told_the_same_bytes(server):
    async def story(world):
        await world.put(sale(), refund("r", 100))
        before = world.log[COMMISSIONS.name][:]
        await world.again(ORDERS)
        again = world.log[COMMISSIONS.name][len(before) :]
        assert {record.value for record in again} == {record.value for record in before}
        assert sum(world.balances("pending").values()) == 900

    book_of(server, story)


@pytest.mark.parametrize("more", [{"commission_fen": 999}, {"served_by": "g3"}, {"amount_fen": 1}])
def test_m5_f42_the_same_order_with_other_content_is_a_conflict(server, more):
    async def story(world):
        await world.put(sale())
        await world.put(sale(**more))
        assert world.dead_letters() == ["conflict"]
        assert world.balances("pending") == OF_1000

    book_of(server, story)


def test_f42_the_same_refund_with_other_content_is_a_conflict_parked_or_not(server):
    async def story(world):
        await world.put(sale(), refund("r", 100), refund("r", 101))
        assert world.dead_letters() == ["conflict"]
        await world.put(refund("q", 100, "late"), refund("q", 101, "late"), sale("late"))
        assert world.dead_letters() == ["conflict"] * 2
        assert sum(world.balances("pending").values()) == 1800

    book_of(server, story)


def test_m6_a_correction_is_a_posting_of_its_own_that_names_what_it_reverses(server):
    async def story(world):
        await world.put(sale())
        before = world.log[COMMISSIONS.name][:]
        await world.put(refund("r", 400))
        assert world.log[COMMISSIONS.name][: len(before)] == before
        reversals = world.postings("reversal")
        assert [each["reverses"][0] for each in reversals] == ["b", "o"]
        assert {each["reverses"] for each in reversals} == {
            each["posting_id"] for each in world.postings()[:2]
        }

    book_of(server, story)


def test_m8_refunds_above_the_sale_are_refused_whichever_amount_is_exceeded(server):
    async def story(world):
        await world.put(sale(), refund("r", 600), refund("q", 401))
        await world.put(refund("x", 1, amount_fen=10_000))
        assert world.dead_letters() == ["refund_over_sale"] * 2
        assert sum(world.balances("pending").values()) == 400

    book_of(server, story)


def test_m8_what_is_given_back_after_the_payout_is_owed_and_paid_stays_what_was_paid(server):
    async def story(world):
        await sold_and_paid(world)
        assert world.balances("paid") == OF_1000
        await world.put(refund("r", 1000))
        assert world.balances("paid") == OF_1000
        assert world.balances("receivable") == {party: -fen for party, fen in OF_1000.items()}
        assert world.balances("commission") == {}

    book_of(server, story)


@pytest.mark.parametrize("paid_days", [0, 1, 8, 40])
def test_m7_a_full_refund_in_parts_leaves_nobody_anything_before_and_after_it_vests(server, paid_days):
    async def story(world):
        await world.put(sale(commission_fen=997))
        for number in range(7):
            await world.days(paid_days / 2)
            await world.put(refund(f"r{number}", 142, amount_fen=1, occurred_at_ms=world.arbiter.now))
        await world.put(refund("last", 3, amount_fen=1, occurred_at_ms=world.arbiter.now))
        assert world.balances() == {}
        assert world.audit().faults == []

    book_of(server, story)


def test_m9_pending_is_earned_after_the_rights_window_and_each_step_is_made_once(server):
    async def story(world):
        await world.put(sale())
        await world.days(6.99)
        assert world.balances("pending") == OF_1000
        await world.days(0.02)
        assert world.balances("earned") == OF_1000
        for _ in range(2):
            await world.command("vest", order_id="o")
            await world.command("close", period=PERIOD)
            await world.command("pay", period=PERIOD)
        assert world.balances("paid") == OF_1000
        assert [len(world.postings(kind)) for kind in ("vest", "settle", "pay")] == [1, 1, 1]
        assert world.audit().faults == []

    book_of(server, story)


def test_m9_nothing_vests_before_its_time_whoever_asks(server):
    async def story(world):
        await world.put(sale())
        await world.command("vest", order_id="o")
        assert world.dead_letters() == ["command_refused"]
        assert world.balances("pending") == OF_1000

    book_of(server, story)


def test_m9_a_command_that_is_dated_ahead_earns_nothing_early(server):
    async def story(world):
        await world.put(sale())
        await world.days(6.1)
        ahead_ms = world.arbiter.now + int(0.95 * DAY_MS)
        await world.command("vest", order_id="o", occurred_at_ms=ahead_ms)
        assert world.dead_letters() == ["command_refused"]
        assert world.balances("pending") == OF_1000
        await world.days(1)
        assert world.balances("earned") == OF_1000

    book_of(server, story)


def test_m9_what_vests_does_so_though_the_clock_of_the_broker_is_a_little_behind(server):
    async def story(world):
        await world.put(sale())
        world.arbiter.now = BEGIN_MS + 7 * DAY_MS - 30_000
        await world.command("vest", order_id="o", occurred_at_ms=BEGIN_MS + 7 * DAY_MS)
        assert world.balances("earned") == OF_1000

    book_of(server, story)


def test_m11_a_close_that_is_dated_ahead_closes_no_month_early(server):
    async def story(world):
        world.arbiter.now = BEGIN_MS + 9 * DAY_MS  # 30 September
        await world.command("close", period=NEXT, occurred_at_ms=world.arbiter.now + DAY_MS)
        assert world.dead_letters() == ["command_refused"]

    book_of(server, story)


def test_m9_nothing_is_paid_of_a_period_that_is_not_closed(server):
    async def story(world):
        await world.put(sale())
        await world.days(8)
        await world.command("pay", period=PERIOD)
        assert world.dead_letters() == ["command_refused"]
        assert world.balances("paid") == {}

    book_of(server, story)


def test_m9_who_is_named_is_paid_alone_and_the_others_later(server):
    async def story(world):
        await world.put(sale())
        await world.days(8)
        await world.command("close", period=PERIOD)
        await world.command("pay", period=PERIOD, lines=(line("settled", "g2", 0),))
        assert world.balances("paid") == {"g2": 500}
        await world.command("pay", period=PERIOD)
        assert world.balances("paid") == OF_1000

    book_of(server, story)


def test_m10_a_posting_carries_what_it_follows_from_and_its_number(server):
    async def story(world):
        await sold_and_paid(world)
        assert [each["book_seq"] for each in world.postings()] == list(range(1, 7))
        for posting in world.postings("base") + world.postings("overlay"):
            assert posting["order_id"] == "o"
            assert posting["rule_version"] == "1"
            assert posting["inputs"]["terms"]["version"] == 1
            assert {each["kind"] for each in posting["inputs"]["evidence"]} == {"binding"}
        assert world.postings("settle")[0]["actor"] == "ann"

    book_of(server, story)


def test_m11_a_closed_period_takes_nothing_and_its_seal_stands_in_the_book(server):
    async def story(world):
        await world.put(sale())
        await world.command("close", period=PERIOD)
        await world.put(sale("late"))  # of the closed month
        [seal] = world.postings("close")
        assert seal["period"] == NEXT
        assert seal["inputs"]["period"] == PERIOD
        assert seal["inputs"]["count"] == 2
        periods = {each["order_id"]: each["period"] for each in world.postings() if each["kind"] == "base"}
        assert periods == {"o": PERIOD, "late": NEXT}
        assert world.audit().faults == []

    book_of(server, story)


def test_f66_m11_a_refund_after_the_close_goes_to_the_open_period_and_names_its_sale(server):
    async def story(world):
        await world.put(sale())
        await world.command("close", period=PERIOD)
        await world.put(refund("r", 100))
        assert {each["period"] for each in world.postings("reversal")} == {NEXT}
        assert world.postings("reversal")[0]["reverses"] == world.postings("base")[0]["posting_id"]

    book_of(server, story)


def test_a_period_that_has_not_begun_is_not_closed(server):
    async def story(world):
        await world.command("close", period="2027-01")
        await world.command("close")
        assert world.dead_letters() == ["command_refused"] * 2

    book_of(server, story)


@pytest.mark.parametrize("period", ["2025-00", "2025-13", "2025-99", "2025-1", "2025-011"])
def test_m11_a_period_that_no_calendar_has_is_refused_and_the_book_stays_open_where_it_was(server, period):
    async def story(world):
        await world.put(sale())
        value = world.close_of(PERIOD).replace(PERIOD.encode(), period.encode())
        world._append(LEDGER_COMMANDS.name, b"b", value)
        await world.settle()
        assert world.dead_letters() == ["invalid"]
        await world.put(sale("p"))
        assert {each["period"] for each in world.postings()} == {PERIOD}

    book_of(server, story)


def test_m12_balances_at_any_time_follow_from_the_postings_and_are_what_redis_holds(server):
    async def story(world):
        await sold_and_paid(world, sale(), sale("p", 777), sale("q", 1))
        await world.put(refund("r", 100), refund("s", 33, "p"), refund("early", 3, "not yet"))
        await world.command("dispute", order_id="p")
        assert await world.differences() == ({}, [])

    book_of(server, story)


@pytest.mark.parametrize(
    ("fen", "more", "refused"),
    [
        (5000, {}, False),
        (5001, {}, True),
        (5001, {"checker": "ann"}, True),  # the actor
        (5001, {"checker": "bob"}, False),
        (10, {"reason": None}, True),
        (10, {"reason": "  "}, True),
    ],
)
def test_m14_an_adjustment_has_a_reason_and_above_a_limit_a_second_person(server, fen, more, refused):
    async def story(world):
        lines = (line("commission", "group", -fen, "group"), line("earned", "g3", fen))
        await world.command("adjust", lines=lines, **{"reason": "forgotten"} | more)
        assert world.dead_letters() == ["command_refused"] * refused
        assert world.balances("earned") == ({} if refused else {"g3": fen})

    book_of(server, story)


def test_what_is_adjusted_is_settled_and_paid_with_the_rest_once(server):
    async def story(world):
        lines = (line("commission", "group", -7, "group"), line("earned", "g3", 7))
        for _ in range(2):
            await world.command("adjust", lines=lines, reason="forgotten", command_id="same")
        await world.command("adjust", lines=lines, reason="another", command_id="same")
        assert world.dead_letters() == ["conflict"]
        await sold_and_paid(world)
        assert world.balances("paid") == OF_1000 | {"g3": 7}
        assert await world.differences() == ({}, [])

    book_of(server, story)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (line("earned", "g3", 1), line("earned", "g1", -2)),
        (line("elsewhere", "g3", 1), line("earned", "g1", -1)),
        (line("pending", "g3", 1), line("earned", "g1", -1)),
        (line("paid", "g3", 1), line("commission", "group", -1, "group")),
    ],
)
def test_an_adjustment_that_is_none_is_refused(server, lines):
    async def story(world):
        await world.command("adjust", lines=lines, reason="why not")
        assert world.dead_letters() == ["command_refused"]

    book_of(server, story)


@pytest.mark.parametrize(
    "lines",
    [
        (line("earned", "g3", -1), line("commission", "group", 1, "group")),  # holds nothing
        (line("earned", "g2", -501), line("earned", "g3", 501)),  # holds 500
        (line("earned", "g2", -1, "owner"), line("earned", "g3", 1)),  # not in this role
        (line("receivable", "g2", 1), line("earned", "g2", -1)),  # owes nothing
    ],
)
def test_m8_an_adjustment_takes_nothing_that_is_not_there(server, lines):
    async def story(world):
        await world.put(sale())
        await world.days(8)
        await world.command("adjust", lines=lines, reason="why not")
        assert world.dead_letters() == ["command_refused"]
        assert world.balances("earned") == OF_1000
        taken = (line("earned", "g2", -500), line("earned", "g3", 500))
        await world.command("adjust", lines=taken, reason="she did it")
        assert world.balances("earned") == {"g1": 200, "g3": 500, "s": 200, "boss": 100}
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_m8_what_was_taken_off_goes_off_the_payout_and_nobody_is_paid_less_than_nothing(server):
    async def story(world):
        await world.put(sale())
        await world.days(8)
        lines = (line("earned", "g2", -300), line("commission", "group", 300, "group"))
        await world.command("adjust", lines=lines, reason="an error of August")
        await world.command("dispute", order_id="o")
        await world.command("close", period=PERIOD)
        await world.command("pay", period=PERIOD)
        assert world.balances("paid") == {}  # of what is disputed nothing can be taken off yet
        assert world.dead_letters() == ["command_refused"]
        await world.command("release", order_id="o")
        await world.days(30)
        await world.command("close", period=NEXT)
        await world.command("pay", period=NEXT)
        assert world.balances("paid") == OF_1000 | {"g2": 200}
        assert world.balances("settled") == {}
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_m8_a_debt_is_cleared_from_what_is_settled_up_to_the_debt(server):
    async def story(world):
        await sold_and_paid(world)
        await world.put(refund("r", 1000), sale("p", occurred_at_ms=world.arbiter.now))
        await world.days(8)
        clear = (line("receivable", "g2", 501), line("earned", "g2", -501))
        await world.command("adjust", lines=clear, reason="more than she owes")
        assert world.dead_letters() == ["command_refused"]
        clear = (line("receivable", "g2", 500), line("earned", "g2", -500))
        await world.command("adjust", lines=clear, reason="what she owes")
        await world.command("close", period=NEXT)
        await world.command("pay", period=NEXT)
        assert "g2" not in world.balances("receivable")
        assert world.balances("paid")["g2"] == 500
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_a_dispute_freezes_its_posting_alone_until_it_is_released(server):
    async def story(world):
        await world.put(sale(), sale("p", 500))
        await world.command("dispute", order_id="o")
        await world.days(8)
        await world.command("close", period=PERIOD)
        await world.command("pay", period=PERIOD)
        assert world.balances("pending") == OF_1000
        assert sum(world.balances("paid").values()) == 500
        await world.command("release", order_id="o")
        await world.tick()
        assert world.balances("earned") == OF_1000
        await world.days(30)
        await world.command("close", period=NEXT)
        await world.command("pay", period=NEXT)
        assert sum(world.balances("paid").values()) == 1500
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_a_dispute_about_nothing_is_told_so(server):
    async def story(world):
        await world.command("dispute", posting_id="b000")
        await world.command("dispute")
        assert world.dead_letters() == ["command_refused"] * 2

    book_of(server, story)


@pytest.mark.parametrize("known", [True, False])
def test_a_dispute_that_names_a_posting_alone_is_refused_by_all_who_read_it(server, known):
    async def story(world):
        disputed = {"posting_id": identity("base", "b", "o")}
        if not known:
            await world.command("dispute", **disputed)
        await world.put(sale())
        if known:
            await world.command("dispute", **disputed)
        assert world.dead_letters() == ["command_refused"]
        assert await world.differences() == ({}, [])
        book = Extract("b")
        for record in world.log[COMMISSIONS.name]:
            book.posting(record.value)
        for record in world.log[LEDGER_COMMANDS.name]:
            book.command(record.value)
        assert book.disputes == {}

    book_of(server, story)


def test_a_dispute_before_its_order_freezes_it_as_it_comes(server):
    async def story(world):
        await world.command("dispute", order_id="o")
        await world.put(refund("r", 500), sale())
        await world.days(8)
        assert sum(world.balances("pending").values()) == 500
        assert await world.differences() == ({}, [])
        await world.command("release", order_id="o")
        await world.tick()
        assert sum(world.balances("earned").values()) == 500

    book_of(server, story)


def test_what_is_disputed_is_given_back_all_the_same(server):
    async def story(world):
        await world.put(sale())
        await world.command("dispute", order_id="o")
        await world.put(refund("r", 1000))
        assert world.balances() == {}

    book_of(server, story)


def test_f65_a_refund_before_its_sale_waits_for_it(server):
    async def story(world):
        await world.put(refund("r", 400), refund("q", 100))
        assert world.postings() == []
        assert world.dead_letters() == []
        await world.put(sale())
        assert sum(world.balances("pending").values()) == 500
        assert len(world.postings("reversal")) == 4
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_f65_what_a_sale_does_not_bear_of_the_refunds_before_it_is_refused_with_its_own_bytes(server):
    async def story(world):
        await world.put(refund("r", 600), refund("q", 600))
        await world.put(sale())
        assert world.dead_letters() == ["refund_over_sale"]
        assert world.log["dead-letters"][0].value == world.log[ORDERS.name][1].value
        assert sum(world.balances("pending").values()) == 400

    book_of(server, story)


def test_f65_refunds_whose_sale_does_not_come_are_set_aside_in_the_end(server):
    async def story(world):
        await world.put(refund("r", 600))
        await world.days(14.9)
        assert world.dead_letters() == []
        await world.days(0.2)
        assert world.dead_letters() == ["refund_without_sale"]
        assert world.log["dead-letters"][0].value == world.log[ORDERS.name][0].value

    book_of(server, story)


@pytest.mark.parametrize("before", [True, False])
def test_f65_a_refund_of_somebody_else_is_refused_before_its_order_and_after_it(server, before):
    async def story(world):
        events = [refund("r", 400, member_id="zz"), sale()]
        await world.put(*(events if before else reversed(events)))
        assert world.balances("pending") == OF_1000
        assert world.dead_letters() == ["conflict"]
        assert await world.differences() == ({}, [])

    book_of(server, story)


@pytest.mark.parametrize("before", [True, False])
def test_a_refund_under_the_id_that_the_member_was_merged_into_is_taken(server, before):
    async def story(world):
        await world.put(
            Member(member_id="m", brand="b", version=1, merged_into="m2"),
            Member(member_id="m2", brand="b", version=1, merged_into="m3"),
            Member(member_id="m3", brand="b", version=1, merged_into="m"),  # a circle ends
        )
        events = [refund("r", 400, member_id="m3"), sale()]
        await world.put(*(events if before else reversed(events)))
        assert sum(world.balances("pending").values()) == 600
        assert world.dead_letters() == []

    book_of(server, story)


def test_only_so_many_refunds_wait_for_an_order_and_the_sale_is_taken_whatever_waits(server):
    async def story(world):
        await world.put(*(refund(f"r{n}", 1) for n in range(PARKED_MAX + 2)))
        assert world.dead_letters() == ["refund_without_sale"] * 2
        assert await world.differences() == ({}, [])
        await world.put(refund("r0", 1))  # one that waits already
        assert len(world.dead_letters()) == 2
        await world.put(sale())
        assert sum(world.balances("pending").values()) == 1000 - PARKED_MAX
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_a_refund_of_nothing_is_none(server):
    async def story(world):
        await world.put(sale())
        nothing = world.encoded(refund("r", 3, amount_fen=3)).replace(b'fen":3', b'fen":0')
        world._append(ORDERS.name, b"m", nothing)
        await world.settle()
        assert world.dead_letters() == ["invalid"]
        assert world.balances("pending") == OF_1000

    book_of(server, story)


def test_an_order_has_only_so_many_refunds(server, monkeypatch):
    monkeypatch.setattr("router.rules.money.entries.REFUNDS_MAX", 3)

    async def story(world):
        await world.put(*(refund(f"r{n}", 1) for n in range(4)), sale(), refund("late", 1))
        assert world.dead_letters() == ["refund_over_sale"] * 2
        assert sum(world.balances("pending").values()) == 997

    book_of(server, story)


def test_f65_a_refund_that_comes_twice_is_one(server):
    async def story(world):
        await world.put(sale(), refund("r", 100), refund("r", 100))
        await world.put(refund("r", 100))
        assert sum(world.balances("pending").values()) == 900
        assert world.dead_letters() == []

    book_of(server, story)


def test_a_refund_in_the_name_of_another_member_is_a_conflict(server):
    async def story(world):
        await world.put(sale(), refund("r", 100, member_id="n"))
        assert world.dead_letters() == ["conflict"]

    book_of(server, story)


def test_a_party_who_has_left_gives_back_and_gets_what_was_frozen_at_the_sale(server):
    async def story(world):
        await sold_and_paid(world)
        await world.remove(GUIDES, "b/g2")
        await world.put(refund("r", 500))
        assert world.balances("receivable") == {party: -fen // 2 for party, fen in OF_1000.items()}

    book_of(server, story)


def test_m13_an_old_sale_is_given_back_by_the_rules_that_it_was_sold_under(server):
    async def story(world):
        await world.put(sale())
        rules = '[commission]\n[commission.default]\nname = "all"\nkind = "winner_bound"\n'
        await world.put(policy(toml=TOML + rules, version=2))
        await world.put(refund("r", 500), sale("new"))
        mine = {each["order_id"]: each["inputs"]["terms"]["version"] for each in world.postings()}
        assert mine == {"o": 1, "new": 2}
        halves = {party: fen // 2 for party, fen in OF_1000.items()}
        assert world.balances("pending") == halves | {"g1": halves["g1"] + 1000}

    book_of(server, story)


# -- OCA commission: what other ledgers of commissions got wrong with refunds


def test_oca_51_a_refund_is_not_paid_as_if_it_were_a_sale(server):
    async def story(world):
        await world.put(sale(), refund("r", 1000))
        assert world.balances() == {}

    book_of(server, story)


def test_oca_55_a_refund_of_what_was_settled_is_settled_back_once(server):
    async def story(world):
        await world.put(sale())
        await world.days(8)
        await world.command("close", period=PERIOD)
        await world.put(refund("r", 1000))
        assert world.balances() == {}
        await world.days(30)
        await world.command("close", period=NEXT)
        await world.command("pay", period=NEXT)
        assert world.balances() == {}

    book_of(server, story)


def test_oca_555_a_refund_takes_back_with_the_right_sign_from_everybody(server):
    async def story(world):
        await world.put(sale(), refund("r", 500))
        taken = {}
        for posting in world.postings("reversal"):
            for each in posting["lines"]:
                taken[each["party"]] = taken.get(each["party"], 0) + each["fen"]
        assert taken == {"group": 500} | {party: -fen // 2 for party, fen in OF_1000.items()}

    book_of(server, story)


def test_oca_pr_503_a_part_that_is_given_back_is_a_part_and_not_the_whole(server):
    async def story(world):
        await world.put(sale(), refund("r", 100), refund("q", 200))
        assert sum(world.balances("pending").values()) == 700

    book_of(server, story)


def test_oca_607_sale_and_refund_in_one_period_are_both_in_it(server):
    async def story(world):
        await world.put(sale(), refund("r", 1000))
        await world.command("close", period=PERIOD)
        [seal] = world.postings("close")
        assert seal["inputs"]["count"] == len(world.postings()) - 1 == 4

    book_of(server, story)


def test_m1_more_than_a_balance_can_hold_is_refused_by_name_before_anything_is_written(server):
    """1,023 orders of the largest amount are what Redis can count."""

    async def story(world):
        for batch in range(4):
            names = (f"o{batch}.{number}" for number in range(260))
            await world.put(*(sale(name, 2**53, amount_fen=2**53) for name in names))
        refused = len(world.dead_letters())
        assert 0 < refused < 50
        assert set(world.dead_letters()) == {"too_large"}
        assert len(world.postings("base")) == 4 * 260 - refused
        await world.again(ORDERS)
        await world.put(sale("elsewhere", 5, amount_fen=50, store_id="t", served_by="g9", member_id="n"))
        assert world.postings()[-1]["order_id"] == "elsewhere"

    book_of(server, story)


# -- earnings


def test_earnings_of_today_this_period_and_pending_stand_in_one_hash_each(server):
    async def story(world):
        await world.put(sale())
        today = orjson.loads(world.log[ORDERS.name][0].value)["occurred_at_ms"]
        assert today == BEGIN_MS
        assert await world.earns("g2") == {
            "pending|server": "500",
            f"p|{PERIOD}": "500",
            "day": "2026-09-21 500",
        }
        whole = await world.earns("East", "region")
        assert (await world.earns("s", "store"))[f"p|{PERIOD}"] == "1000"
        assert whole[f"p|{PERIOD}"] == "1000"
        await world.put(sale("p", occurred_at_ms=BEGIN_MS + DAY_MS), refund("r", 500))
        assert (await world.earns("g2"))["day"] == "2026-09-22 500"
        assert (await world.earns("g2"))[f"p|{PERIOD}"] == "750"

    book_of(server, story)


def test_m1_the_sum_of_a_day_is_counted_in_whole_fen_however_large(server):
    async def story(world):
        large = [sale(f"o{number}", 2**53 - number, amount_fen=2**53) for number in range(3)]
        await world.put(*large)
        assert (await world.earns("s", "store"))["day"] == f"2026-09-21 {3 * 2**53 - 3}"
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_m12_another_clock_of_the_book_begins_with_what_is_sold_under_it(server):
    """Days that are over stay what they were, and the book still says what Redis holds."""

    async def story(world):
        midnight_ms = BEGIN_MS - (BEGIN_MS + 8 * 3_600_000) % DAY_MS
        await world.put(sale(occurred_at_ms=midnight_ms), sale("p", occurred_at_ms=midnight_ms + 1))
        lines = (line("commission", "group", -7, "group"), line("earned", "g3", 7))
        await world.command("adjust", lines=lines, reason="forgotten")
        clock = RULES.replace("rights_days = 7", "rights_days = 7\nledger_utc_offset_h = -12")
        await world.put(policy(version=2, toml=TOML + clock))
        assert await world.differences() == ({}, [])
        await world.put(refund("r", 100), sale("q", occurred_at_ms=midnight_ms + DAY_MS))
        assert (await world.earns("g2"))["day"] == "2026-09-21 1450"
        assert await world.differences() == ({}, [])

    book_of(server, story)


def test_m12_a_day_in_redis_that_is_another_than_the_book_says_is_told_and_mended(server):
    async def story(world):
        await world.put(sale())
        name = keys.earnings("b", "party", "g2")
        await world.redis.hset(name, "day", "2026-09-20 500")
        wrong, _ = await world.differences(mend=True)
        assert name in wrong
        assert await world.differences() == ({}, [])
        assert (await world.earns("g2"))["day"] == "2026-09-21 500"

    book_of(server, story)


def test_m12_a_day_whose_sum_is_nothing_is_that_day_all_the_same(server):
    """Who is bound is paid today, and the split takes it all."""
    rules = RULES.replace("owner = 2000, server = 5000", "owner = 0, server = 7000")

    async def story(world):
        lines = (line("commission", "group", -7, "group"), line("earned", "g1", 7))
        await world.command("adjust", lines=lines, reason="forgotten")
        await world.put(sale(occurred_at_ms=BEGIN_MS + DAY_MS))
        assert (await world.earns("g1"))["day"] == "2026-09-22 0"
        assert await world.differences() == ({}, [])

    book_of(server, story, rules=rules)


def test_what_is_of_a_brand_that_nobody_knows_is_set_aside(server):
    async def story(world):
        await world.put(sale(brand="x"))
        assert world.dead_letters() == ["unknown"]

    book_of(server, story)


def test_bad_records_are_set_aside_and_the_rest_of_their_batch_is_posted(server):
    async def story(world):
        world._append(ORDERS.name, b"m", b"{")
        world._append(ORDERS.name, b"m", b'{"order_id":"x"}')
        await world.put(sale())
        assert world.dead_letters() == ["not_json", "invalid"]
        assert world.balances("pending") == OF_1000

    book_of(server, story)

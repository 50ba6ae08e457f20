"""Orders, refunds, time, closes, payouts, disputes and repeats in any order, against a model in fractions."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from router.local import EmbeddedRedis
from router.state.redis import Scripts
from tests.ledger_world import DAY_MS, RULES, LedgerWorld, book_events, refund, sale
from topics.catalog import LEDGER_COMMANDS, ORDERS

ORDER_NAMES = st.sampled_from(["o1", "o2", "o3", "o4"])
REFUND_NAMES = st.sampled_from(["r1", "r2", "r3"])
#: What is whose, exactly.
SHARES = {"g1": Fraction(2, 10), "g2": Fraction(5, 10), "s": Fraction(2, 10), "boss": Fraction(1, 10)}
STAGES = ("pending", "earned", "settled", "paid")


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


def month(at_ms):
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC) + timedelta(hours=8):%Y-%m}"


@dataclass
class Sold:
    """An order as it should be."""

    fen: int
    vests_ms: int
    refunds: dict = field(default_factory=dict)
    stage: str = "pending"
    period: str = ""
    frozen: bool = False
    paid: dict = field(default_factory=dict)

    @property
    def left(self):
        return self.fen - sum(self.refunds.values())


class Money(RuleBasedStateMachine):
    """The real ledger and timers on a real server; the model knows the rules of DOMAIN and nothing else."""

    server = None

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.scripts = Scripts(self.server.url)
        self.sold, self.parked, self.since, self.refused = {}, defaultdict(dict), "", 0
        self.disputed = set()
        self.do(self.begin())

    async def begin(self):
        await self.scripts.redis.flushall()
        self.world = LedgerWorld(self.scripts)
        await self.world.put(*book_events(RULES))

    def teardown(self):
        try:
            wrong, faults = self.do(self.world.differences())
            assert (wrong, faults) == ({}, [])
        finally:
            self.do(self.scripts.close())
            self.loop.close()

    def do(self, step):
        return self.loop.run_until_complete(step)

    @property
    def now(self):
        return self.world.arbiter.now

    # -- what happens

    @rule(name=ORDER_NAMES, fen=st.integers(0, 60) | st.integers(0, 10_000))
    def sell(self, name, fen):
        self.do(self.world.put(sale(name, fen, amount_fen=10 * fen, occurred_at_ms=self.now)))
        if name in self.sold:
            known = self.sold[name]
            self.refused += (known.fen, known.vests_ms) != (fen, self.now + 7 * DAY_MS)
            return
        order = self.sold[name] = Sold(fen, self.now + 7 * DAY_MS, frozen=name in self.disputed)
        for refund_id, (part, _) in self.parked.pop(name, {}).items():
            self._take(order, refund_id, part)

    @rule(name=ORDER_NAMES, refund_id=REFUND_NAMES, fen=st.integers(1, 40) | st.integers(1, 10_000))
    def give_back(self, name, refund_id, fen):
        event = refund(refund_id, fen, name, amount_fen=fen, occurred_at_ms=self.now)
        self.do(self.world.put(event))
        if name not in self.sold:
            known, _ = self.parked[name].setdefault(refund_id, (fen, self.now + 15 * DAY_MS))
            self.refused += known != fen
            return
        self._take(self.sold[name], refund_id, fen)

    def _take(self, order, refund_id, fen):
        known = order.refunds.get(refund_id)
        if known is not None:
            self.refused += known != fen
        elif fen > order.left:
            self.refused += 1
        else:
            order.refunds[refund_id] = fen

    @rule(first=st.integers(0, 30))
    def orders_again(self, first):
        """Whoever was refused is refused again; nothing else changes."""
        before = self._told()
        self.do(self.world.again(ORDERS, first))
        self.do(self.world.tick())  # who waited in vain is told so again
        self.refused += len(self._told()) - len(before)

    def _told(self):
        return [reason for reason in self.world.dead_letters() if reason != "refund_without_sale"]

    @rule(count=st.sampled_from([0, 1, 4, 8, 31]))
    def wait(self, count):
        self.do(self.world.days(count))
        self._vest()
        for waiting in self.parked.values():  # no order came
            for late in [name for name, (_, until_ms) in waiting.items() if until_ms <= self.now]:
                del waiting[late]

    def _vest(self):
        for order in self.sold.values():
            if order.stage == "pending" and not order.frozen and order.vests_ms <= self.now:
                order.stage, order.period = "earned", max(month(self.now), self.since)

    @rule(back=st.integers(0, 1))
    def close(self, back):
        period = month(self.now - back * 31 * DAY_MS)
        self.do(self.world.command("close", period=period))
        if period < self.since:
            return
        for order in self.sold.values():
            if order.stage == "earned" and not order.frozen and order.period <= period:
                order.stage, order.period = "settled", period
        year, number = map(int, period.split("-"))
        self.since = f"{year + number // 12}-{number % 12 + 1:02}"

    @rule(back=st.integers(0, 1))
    def pay(self, back):
        period = month(self.now - back * 31 * DAY_MS)
        self.do(self.world.command("pay", period=period))
        if period >= self.since:
            self.refused += 1
            return
        for order in self.sold.values():
            if order.stage == "settled" and not order.frozen and order.period <= period:
                order.stage = "paid"

    @rule(name=ORDER_NAMES, kind=st.sampled_from(["dispute", "release"]))
    def dispute(self, name, kind):
        self.do(self.world.command(kind, order_id=name))
        (self.disputed.add if kind == "dispute" else self.disputed.discard)(name)
        if name in self.sold:
            self.sold[name].frozen = kind == "dispute"
            self.do(self.world.tick())
            self._vest()

    @rule(first=st.integers(0, 12))
    def vest_again(self, first):
        """Commands of the timer come again; others have ids that nobody sends twice."""
        records = [
            record for record in self.world.log[LEDGER_COMMANDS.name][first:] if b'"vest"' in record.value
        ]
        self.do(self.world.work[LEDGER_COMMANDS.name](records))

    # -- what holds

    @invariant()
    def every_party_holds_its_part_of_what_is_left_and_it_lies_where_it_should(self):
        held = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
        based = defaultdict(int)
        for posting in self.world.postings():
            of_base = posting["kind"] == "base" or posting.get("reverses", "").startswith("b")
            assert sum(line["fen"] for line in posting["lines"]) == 0
            for line in posting["lines"]:
                held[posting.get("order_id")][line["account"]][line["party"]] += line["fen"]
                if of_base and line["account"] == "pending":
                    based[posting["order_id"], line["party"]] += line["fen"]
        for name, order in self.sold.items():
            accounts = held[name]
            assert -accounts["commission"]["group"] == order.left
            assert based[name, "g1"] == order.left  # the group's own settlement, untouched by the split
            for party, share in SHARES.items():
                mine = {account: accounts[account][party] for account in (*STAGES, "receivable")}
                total = sum(mine.values())
                assert abs(total - share * order.left) < 1, (name, party)
                assert total >= 0
                assert all(fen >= 0 for account, fen in mine.items() if account != "receivable")
                assert mine["receivable"] <= 0
                if order.stage != "paid":
                    assert mine[order.stage] == total, (name, order.stage, mine)
                else:  # what was paid stays paid
                    assert mine["paid"] == order.paid.setdefault(party, mine["paid"])
                    assert mine["paid"] + mine["receivable"] <= total
            assert (
                sum(accounts[where][party] for where in (*STAGES, "receivable") for party in SHARES)
                == order.left
            )

    @invariant()
    def nothing_is_lost_of_what_was_refused(self):
        told = self._told()
        assert len(told) >= self.refused
        assert set(told) <= {"conflict", "refund_over_sale", "command_refused", "unknown"}


@pytest.mark.slow
def test_the_book_is_right_after_any_orders_refunds_closes_payouts_disputes_and_repeats(server):
    """M2 M5 M7 M8 M9 F65 F66"""
    Money.server = server
    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),
        ),
    )

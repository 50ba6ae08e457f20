"""Orders by several rules, refunds, corrections, time, closes, payouts, disputes, deaths, in any order.

All against a model in fractions.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial

import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from router.local import EmbeddedRedis
from router.rules.money.postings import identity
from router.state.redis import Scripts
from tests.ledger_world import DAY_MS, LedgerWorld, book_events, line, refund, sale
from tests.lifecycle_world import BEGIN_MS
from tests.parts import PATIENT_S
from tests.test_ledger_crashes import DiedError, mortal
from topics.bindings import Binding
from topics.catalog import LEDGER_COMMANDS, ORDERS
from topics.touches import Touch

#: Each order and who buys: m is bound to g1, k to g2, n to nobody; g3 met k.
MEMBER_OF = {"o1": "m", "o2": "n", "o3": "k", "o4": "m", "o5": "k"}
OWNER_OF, MET = {"m": "g1", "k": "g2"}, {"k": "g3"}
ORDER_NAMES = st.sampled_from([*MEMBER_OF])
REFUND_NAMES = st.sampled_from(["r1", "r2", "r3"])
SERVERS = st.sampled_from(["g1", "g2", "g3"])
CHANNELS = st.sampled_from(["winner", "fixed", "effort"])
#: The base goes to who is bound; the split is by the channel of the sale, the last rule takes all others.
SPLITS = """
[commission]
base_order = ["owner", "server", "store"]
rights_days = 7
adjust_check_fen = 5000
[commission.attribution]
owner = 60
server = 30
[[commission.splits]]
name = "winner"
kind = "winner_served"
channels = ["winner"]
[[commission.splits]]
name = "fixed"
kind = "fixed_by_role"
channels = ["fixed"]
shares = { owner = 2000, server = 5000, store = 2000, manager = 1000 }
[commission.default]
name = "effort"
kind = "effort_weighted"
shares = { owner = 500, server = 3000, store = 500, manager = 300 }
efforts = { visit = 1500 }
"""
#: When members were bound, and met.
BEFORE_MS = BEGIN_MS - DAY_MS
#: Before or after which step a worker dies with a batch, if it does.
DIES = st.none() | st.tuples(st.sampled_from(["post", "publish", "published"]), st.booleans())
STAGES = ("pending", "earned", "settled", "paid")


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


def month(at_ms):
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC) + timedelta(hours=8):%Y-%m}"


def exact(member, server, channel, at_ms):
    """What is whose of one fen, (role, party) to a fraction, if fen could be cut."""
    days = (at_ms - BEFORE_MS) / DAY_MS
    owner = OWNER_OF.get(member) if days <= 60 else None
    met = MET.get(member) if days <= 30 else None
    if channel == "winner":
        return {("server", server): Fraction(1)}
    given = {"owner": 2000, "server": 5000, "store": 2000, "manager": 1000}
    if channel == "effort":
        given = {"owner": 500, "server": 3000, "store": 500, "manager": 300}
    who = {"owner": owner, "server": server, "store": "s", "manager": "boss"}
    weights = {(role, party): given[role] for role, party in who.items() if party}
    if channel == "effort" and met:
        weights["server", met] = weights.get(("server", met), 0) + 1500
    whole = sum(weights.values())
    return {key: Fraction(weight, whole) for key, weight in weights.items()}


@dataclass
class Adjusted:
    """A correction by hand as it should be."""

    party: str
    fen: int
    period: str
    stage: str = "earned"


@dataclass
class Sold:
    """An order as it should be."""

    fen: int
    vests_ms: int
    content: tuple
    based: tuple
    shares: dict
    refunds: dict = field(default_factory=dict)
    stage: str = "pending"
    period: str = ""
    vested: str = ""
    frozen: bool = False
    paid: dict = field(default_factory=dict)

    @property
    def left(self):
        return self.fen - sum(self.refunds.values())


class Money(RuleBasedStateMachine):
    """The real ledger and timers on a real server; the model is written a second time, in fractions."""

    server, died = None, 0

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.scripts = Scripts(self.server.url, timeout_s=PATIENT_S)
        self.sold, self.parked, self.since, self.refused = {}, defaultdict(dict), "", 0
        self.disputed, self.adjusted, self.fate, self.deaths = set(), {}, None, 0
        self.do(self.begin())

    async def begin(self):
        await self.scripts.redis.flushall()
        self.world = LedgerWorld(self.scripts)
        bound = {"command_id": "bound-k", "member_id": "k", "kind": "bind", "guide_id": "g2"}
        met = {"touch_id": "met-k", "member_id": "k", "kind": "visit", "guide_id": "g3", "store_id": "s"}
        when = {"brand": "b", "occurred_at_ms": BEFORE_MS}
        await self.world.put(*book_events(SPLITS), Binding(**bound, **when), Touch(**met, **when))
        for topic, name in ((ORDERS, "orders"), (LEDGER_COMMANDS, "commands")):
            self.world.work[topic.name] = partial(self.work, self.world.work[topic.name], name)

    async def work(self, whole, name, records):
        """A batch through a worker; if that one dies, nothing is acknowledged and another gets it all."""
        fate, self.fate = self.fate, None
        if fate is not None:
            step, after = fate
            try:
                await self.world._money(records, getattr(mortal(self.world, step, after=after), name))
            except DiedError:
                self.deaths += 1
            else:
                return
        await whole(records)

    def teardown(self):
        try:
            wrong, faults = self.do(self.world.differences())
            assert (wrong, faults) == ({}, [])
            type(self).died += self.deaths
        finally:
            self.do(self.scripts.close())
            self.loop.close()

    def do(self, step):
        return self.loop.run_until_complete(step)

    @property
    def now(self):
        return self.world.arbiter.now

    # -- what happens

    @initialize(
        sales=st.lists(st.tuples(st.integers(1, 10_000), SERVERS, CHANNELS), min_size=1, max_size=4),
        days=st.sampled_from([0, 8]),
        steps=st.sampled_from([(), ("close",), ("close", "pay")]),
    )
    def begins_with_some_sales(self, sales, days, steps):
        for name, told in zip(MEMBER_OF, sales, strict=False):
            self.sell(name, *told, None)
        self.wait(days)
        for step in steps:
            getattr(self, step)(0, None)

    @rule(
        name=ORDER_NAMES,
        fen=st.integers(0, 60) | st.integers(0, 10_000),
        server=SERVERS,
        channel=CHANNELS,
        dies=DIES,
    )
    def sell(self, name, fen, server, channel, dies):
        self.fate = dies
        member, at_ms = MEMBER_OF[name], self.now
        told = {"member_id": member, "served_by": server, "channel": channel, "occurred_at_ms": at_ms}
        self.do(self.world.put(sale(name, fen, amount_fen=10 * fen, **told)))
        content = (fen, server, channel, at_ms)
        if name in self.sold:
            self.refused += self.sold[name].content != content
            return
        owner = OWNER_OF.get(member)
        based = ("owner", owner) if owner else ("server", server)
        order = self.sold[name] = Sold(
            fen, at_ms + 7 * DAY_MS, content, based, exact(member, server, channel, at_ms)
        )
        order.frozen = name in self.disputed
        for refund_id, (part, _) in self.parked.pop(name, {}).items():
            self._take(order, refund_id, part)

    @rule(
        name=ORDER_NAMES, refund_id=REFUND_NAMES, fen=st.integers(1, 40) | st.integers(1, 10_000), dies=DIES
    )
    def give_back(self, name, refund_id, fen, dies):
        self.fate = dies
        told = {"member_id": MEMBER_OF[name], "occurred_at_ms": self.now}
        self.do(self.world.put(refund(refund_id, fen, name, amount_fen=fen, **told)))
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
        """Whoever was refused is refused again; a refund that waited in vain is taken if its sale came."""
        before = self._told()
        for event in (orjson.loads(record.value) for record in self.world.log[ORDERS.name][first:]):
            order, name, fen = (
                self.sold.get(event["order_id"]),
                event.get("refund_id"),
                event["commission_fen"],
            )
            if order is not None and name is not None and name not in order.refunds and fen <= order.left:
                order.refunds[name] = fen
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
                order.vested = order.period

    @rule(party=SERVERS, fen=st.integers(1, 5000), less=st.booleans(), dies=DIES)
    def adjust(self, party, fen, less, dies):
        """More for somebody, or less: what they do not hold is not taken."""
        self.fate = dies
        fen = -fen if less else fen
        covers = self.held("earned", "server", party) + fen >= 0
        lines = (line("commission", "group", -fen, "group"), line("earned", party, fen))
        self.do(self.world.command("adjust", lines=lines, reason="a correction"))
        if covers:
            name = identity("adjust", "b", f"k{self.world._sent}")
            self.adjusted[name] = Adjusted(party, fen, max(month(self.now), self.since))
        else:
            self.refused += 1

    def held(self, account, role, party):
        """What the book says that somebody holds in a role, over all orders."""
        lines = (each for posting in self.world.postings() for each in posting["lines"])
        place = (account, role, party)
        return sum(each["fen"] for each in lines if (each["account"], each["role"], each["party"]) == place)

    @rule(back=st.integers(0, 1), dies=DIES)
    def close(self, back, dies):
        self.fate, period = dies, month(self.now - back * 31 * DAY_MS)
        gained = {name for name in self.sold if self.gained(name)}
        self.do(self.world.command("close", period=period))
        if period < self.since:
            return
        moving = [order for order in self.sold.values() if not order.frozen]
        for each in (*moving, *self.adjusted.values()):
            if each.stage == "earned" and each.period <= period:
                each.stage, each.period = "settled", period
        for name in gained:  # a fen that came by lot is settled with the others, in a period of its own
            order = self.sold[name]
            if not order.frozen and order.vested <= period:
                order.period = max(order.period, period)
        year, number = map(int, period.split("-"))
        self.since = f"{year + number // 12}-{number % 12 + 1:02}"

    def gained(self, name):
        """Whether anybody has something of an order in ``earned`` whose own stage is past that."""
        order = self.sold[name]
        lines = (
            each
            for posting in self.world.postings()
            for each in posting["lines"]
            if posting.get("order_id") == name and each["account"] == "earned"
        )
        return order.stage in {"settled", "paid"} and sum(each["fen"] for each in lines) > 0

    @rule(back=st.integers(0, 1), dies=DIES)
    def pay(self, back, dies):
        """All that is settled; then what was adjusted downwards goes off, as far as there is something."""
        self.fate = dies
        period = month(self.now - back * 31 * DAY_MS)
        self.do(self.world.command("pay", period=period))
        if period >= self.since:
            self.refused += 1
            return
        due = [order for order in self.sold.values() if order.stage == "settled" and not order.frozen]
        due += [each for each in self.adjusted.values() if each.stage == "settled" and each.fen > 0]
        for each in due:
            if each.period <= period:
                each.stage = "paid"
        paid = self.stages()
        for name, each in self.adjusted.items():
            if each.stage == "settled" and each.period <= period and paid[name] == "paid":
                each.stage = "paid"
        for party in ("g1", "g2", "g3"):
            waits = [
                each
                for each in self.adjusted.values()
                if (each.party, each.stage) == (party, "settled") and each.fen < 0 and each.period <= period
            ]
            left = self.held("paid", "server", party)
            assert left >= 0
            # nobody is paid less than nothing, and nothing waits that there was enough for
            assert all(left + each.fen < 0 for each in waits)
            self.refused += len(waits)

    def stages(self):
        """Where each adjustment lies, as the book says."""
        out = defaultdict(lambda: defaultdict(int))
        for posting in self.world.postings():
            for each in posting["lines"] if posting.get("order_id") in self.adjusted else ():
                out[posting["order_id"]][each["account"]] += each["fen"]
        places = {name: {at: fen for at, fen in held.items() if fen} for name, held in out.items()}
        for name, held in places.items():
            assert held.pop("commission") == -self.adjusted[name].fen
            assert [*held.values()] == [self.adjusted[name].fen]
        return {name: next(iter(held)) for name, held in places.items()}

    @rule(name=ORDER_NAMES, kind=st.sampled_from(["dispute", "release"]))
    def dispute(self, name, kind):
        self.do(self.world.command(kind, order_id=name))
        (self.disputed.add if kind == "dispute" else self.disputed.discard)(name)
        if name in self.sold:
            self.sold[name].frozen = kind == "dispute"
            self.do(self.world.tick())
            self._vest()

    @rule(first=st.integers(0, 12))
    def commands_again(self, first):
        """Of the timer, and corrections that were made; others have ids that nobody sends twice."""
        made = tuple(f'"{name}"'.encode() for name in self.commanded())
        records = [
            record
            for record in self.world.log[LEDGER_COMMANDS.name][first:]
            if b'"vest"' in record.value or any(name in record.value for name in made)
        ]
        self.do(self.world.work[LEDGER_COMMANDS.name](records))

    def commanded(self):
        return [each["inputs"]["command_id"] for each in self.world.postings("adjust")]

    # -- what holds

    @invariant()
    def every_party_holds_its_part_of_what_is_left_and_it_lies_where_it_should(self):
        held = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
        based = defaultdict(int)
        for posting in self.world.postings():
            of_base = posting["kind"] == "base" or posting.get("reverses", "").startswith("b")
            assert sum(each["fen"] for each in posting["lines"]) == 0
            for each in posting["lines"]:
                whose = each["role"], each["party"]
                held[posting.get("order_id")][each["account"]][whose] += each["fen"]
                if of_base and each["account"] == "pending":
                    based[posting["order_id"], whose] += each["fen"]
        for name, order in self.sold.items():
            accounts = held[name]
            assert -accounts["commission"]["group", "group"] == order.left
            # the group's own settlement, untouched by the split
            assert {whose: fen for (of, whose), fen in based.items() if of == name and fen} == (
                {order.based: order.left} if order.left else {}
            )
            places = (accounts[where] for where in (*STAGES, "receivable"))
            holding = {whose for place in places for whose, fen in place.items() if fen}
            assert holding <= {*order.shares, *order.paid}
            for whose, share in order.shares.items():
                mine = {account: accounts[account][whose] for account in (*STAGES, "receivable")}
                total = sum(mine.values())
                assert abs(total - share * order.left) < 1, (name, whose)
                assert total >= 0
                assert all(fen >= 0 for account, fen in mine.items() if account != "receivable")
                assert mine["receivable"] <= 0
                # of what remains after a refund the lot may give somebody a fen more
                late = len(order.refunds)
                if order.stage == "settled":
                    assert mine["settled"] + mine["earned"] == total, (name, mine)
                    assert mine["earned"] <= late
                elif order.stage != "paid":
                    assert mine[order.stage] == total, (name, order.stage, mine)
                else:  # what was paid stays paid
                    before = order.paid.get(whose, mine["paid"])
                    order.paid[whose] = mine["paid"]
                    assert before <= mine["paid"] <= before + late
                    assert mine["paid"] + mine["receivable"] <= total
            together = sum(
                accounts[where][whose] for where in (*STAGES, "receivable") for whose in order.shares
            )
            assert together == order.left

    @invariant()
    def every_correction_lies_where_it_should(self):
        assert self.stages() == {name: each.stage for name, each in self.adjusted.items()}

    @invariant()
    def nothing_is_lost_of_what_was_refused(self):
        told = self._told()
        assert len(told) >= self.refused
        assert set(told) <= {"conflict", "refund_over_sale", "command_refused", "unknown"}


@pytest.mark.slow
def test_the_book_is_right_after_any_orders_refunds_closes_payouts_disputes_deaths_and_repeats(server):
    """M2 M3 M5 M7 M8 M9 F08 F65 F66"""
    Money.server = server
    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=70,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),
        ),
    )
    assert Money.died, "no worker died"

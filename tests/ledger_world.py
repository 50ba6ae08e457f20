"""The ledger in one process: real scripts on Valkey, a log in memory, made-up time."""

from __future__ import annotations

import asyncio
from collections import Counter

import orjson

from router.ledger.carrying import Carrier
from router.ledger.gathering import Gathering
from router.ledger.ledger import Ledger
from router.rebuild import differences, repair
from router.reference import REFERENCE_TOPICS
from router.replay import REPLAY_TOPICS, Replay
from router.rules.money.book import Book
from router.state import keys
from router.state.money import Money
from router.state.redis import Scripts
from router.tracking import Tracking
from tests.lifecycle_world import BEGIN_MS, TOML, TOPIC_OF, LifecycleWorld, guide, policy, store
from tests.parts import PATIENT_S
from topics.bindings import Binding
from topics.catalog import BINDINGS, COMMISSIONS, LEDGER_COMMANDS, ORDERS, TOUCHES
from topics.codec import encode, key_of
from topics.commissions import LedgerCommand, PostingLine
from topics.orders import Order

DAY_MS = 86_400_000
#: The month of BEGIN_MS, and the one after.
PERIOD, NEXT = "2026-09", "2026-10"
#: The base goes to who is bound, the split to who served, to the store and to its manager as well.
RULES = """
[commission]
base_order = ["owner", "server", "store"]
rights_days = 7
adjust_check_fen = 5000
[commission.default]
name = "thirds"
kind = "fixed_by_role"
shares = { owner = 2000, server = 5000, store = 2000, manager = 1000 }
"""
#: What is whose of 1000 fen by these rules.
OF_1000 = {"g1": 200, "g2": 500, "s": 200, "boss": 100}


class LedgerWorld(LifecycleWorld):
    """What is put goes into the log, and all that follows is done; ``crash`` names the step before which."""

    def __init__(self, scripts):
        super().__init__(scripts)
        self.scripts = scripts
        self.money = Money(scripts)
        self.opened = set()
        self.ledger = self.another_ledger()
        self.tracking = tracking = Tracking(self.arbiter.members)
        self.work |= {
            BINDINGS.name: tracking.bind,
            TOUCHES.name: tracking.touch,
            ORDERS.name: lambda records: self._money(records, self.ledger.orders),
            LEDGER_COMMANDS.name: lambda records: self._money(records, self.ledger.commands),
        }

    async def put(self, *events):
        """References are logged as well, for whoever works out from the log what Redis should hold."""
        for event in events:
            if (topic := TOPIC_OF[type(event)]) in REFERENCE_TOPICS:
                self._append(topic.name, key_of(topic, event), encode(event))
        await super().put(*events)

    async def differences(self, *, mend=False):
        """Redis against the log, and what is wrong with the log by itself; mended where it is asked for."""
        expected = Replay()
        for group in REPLAY_TOPICS:
            for topic in group:
                expected.feed(topic, self.log[topic.name])
            expected.next_group()
        expected.finish(self.arbiter.now)
        self.wrong = wrong = await differences(expected, self.scripts, lambda *_: None)
        if mend:
            await repair(expected, wrong, self.scripts, lambda *_: None)
        return {name: what for name, what in wrong.items() if "/money}" in name}, expected.books.faults

    async def origins_differ(self):
        """The keys of who brought members in which Redis is not what the log says."""
        await self.differences()
        return {key: what for key, what in self.wrong.items() if "}:origins:" in key or "}:shares:" in key}

    def another_ledger(self, **parts):
        """That of another worker, with some parts of its own."""
        gathering = Gathering(self.arbiter.members, self.reference)
        common = {"money": self.money, "publisher": self, "outbox": self.outbox}
        return Ledger(Carrier(reference=self.reference, gathering=gathering, **common | parts), self.opened)

    async def _money(self, records, work):
        await self.publish(self.outbox.dead_letters(await work(records)))

    async def refresh(self):
        await super().refresh()
        await self.ledger.open()

    async def again(self, topic, first=0):
        """Records that were acknowledged are delivered again."""
        await self.work[topic.name](self.log[topic.name][first:])

    async def days(self, count):
        """Let days pass, with a tick in the end."""
        self.arbiter.now += int(count * DAY_MS)
        await self.tick()

    async def command(self, kind, **more):
        self._sent += 1
        fields = {"actor": "ann", "occurred_at_ms": self.arbiter.now, "command_id": f"k{self._sent}"} | more
        await self.put(LedgerCommand(brand="b", kind=kind, **fields))

    @staticmethod
    def encoded(event):
        return encode(event)

    def close_of(self, period):
        fields = {"actor": "ann", "occurred_at_ms": self.arbiter.now, "command_id": "close", "period": period}
        return encode(LedgerCommand(brand="b", kind="close", **fields))

    # -- what the book says

    def postings(self, kind=None):
        """Each posting once, by its number."""
        first = {}
        for record in self.log[COMMISSIONS.name]:
            event = orjson.loads(record.value)
            kept = first.setdefault(event["posting_id"], event)
            assert kept == event, "a posting was published in two versions"
        ordered = sorted(first.values(), key=lambda each: each["book_seq"])
        return [each for each in ordered if kind in {None, each["kind"]}]

    def balances(self, account=None):
        """(account, party) to fen, over all postings."""
        sums = Counter()
        for posting in self.postings():
            assert sum(line["fen"] for line in posting["lines"]) == 0
            for line in posting["lines"]:
                sums[line["account"], line["party"]] += line["fen"]
        if account is not None:
            return {party: fen for (where, party), fen in sums.items() if where == account and fen}
        return {place: fen for place, fen in sums.items() if fen}

    def audit(self):
        """The book as its topics tell it, worked out anew; what is wrong with it."""
        book = Book(lambda _: 8)
        for record in self.log[COMMISSIONS.name]:
            book.take(record.value, f"@{record.offset}")
        for record in self.log[LEDGER_COMMANDS.name]:
            book.command(LedgerCommand(**orjson.loads(record.value) | {"lines": ()}))
        book.finish()
        return book

    async def earns(self, name, kind="party"):
        """What one read of Redis tells of a party, store or region."""
        held = await self.redis.hgetall(keys.earnings("b", kind, name))
        return {field.decode(): value.decode() for field, value in held.items()}


def book_of(server, story, *events, rules=RULES):
    """Run a story of money in a world with a store, guides g1 to g3 and a manager, on an empty server."""

    async def whole():
        scripts = Scripts(server.url, timeout_s=PATIENT_S)
        try:
            await scripts.redis.flushall()
            world = LedgerWorld(scripts)
            await world.put(*book_events(rules), *events)
            await story(world)
        finally:
            await scripts.close()

    asyncio.run(whole())


def book_events(rules):
    """The store, its guides g1 to g3, its manager; the member is bound to g1."""
    people = [guide(name, capacity=5) for name in ("g1", "g2", "g3")]
    boss = guide("boss", capacity=0, role="manager")
    when = {"occurred_at_ms": BEGIN_MS - DAY_MS, "kind": "bind", "guide_id": "g1"}
    bound = Binding(command_id="bound", member_id="m", brand="b", **when)
    return policy(toml=TOML + rules), store(region="East"), *people, boss, bound


def sale(order_id="o", commission_fen=1000, **more):
    fields = {"member_id": "m", "brand": "b", "occurred_at_ms": BEGIN_MS, "store_id": "s", "served_by": "g2"}
    fields |= {"amount_fen": 10 * commission_fen, "commission_fen": commission_fen, "status": "paid"}
    return Order(order_id=order_id, **fields | more)


def refund(refund_id, commission_fen, order_id="o", **more):
    return sale(order_id, commission_fen, status="refunded", refund_id=refund_id, **more)


def line(account, party, fen, role="server"):
    return PostingLine(account=account, role=role, party=party, fen=fen)

"""A book on a broker and in Redis with sales in every state, and the command line beside it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from uuid import uuid4

import orjson
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from router.cli import main
from router.rules.money.extract import Extract
from router.topology import ensure_topics
from tests.ledger_world import PERIOD, book_of, line, refund, sale
from topics.catalog import COMMISSIONS, GUIDES, LEDGER_COMMANDS, ORDERS, POLICIES, STORES

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

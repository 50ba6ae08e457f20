"""Money through a whole worker: from ``orders`` to ``commissions``, earnings and a clean verify."""

from __future__ import annotations

import time

import pytest

from tests.world import World, told
from topics.bindings import Binding
from topics.catalog import BINDINGS, GUIDES, LEADS, LEDGER_COMMANDS, ORDERS, STORES
from topics.commissions import LedgerCommand
from topics.guides import Guide
from topics.leads import Lead
from topics.orders import Order
from topics.stores import Store


@pytest.fixture
def world(parts, prefix):
    with World(parts.kafka_url, parts.redis_url, prefix) as world:
        store = Store(
            store_id="s", brand="b", version=1, lat=31, lon=121, kind="franchise", active=True, region="East"
        )
        guides = [
            Guide(guide_id=name, brand="b", version=1, store_id="s", active=True) for name in ("g1", "g2")
        ]
        world.roster([(STORES, store), *((GUIDES, guide) for guide in guides)])
        world.worker.start()
        world.until(lambda: world.metrics()["guides",] == len(guides), "a roster")
        # who verifies asks for leads
        world.publish(LEADS, Lead(lead_id="l", member_id="m", brand="b", occurred_at_ms=now_ms()))
        world.until(lambda: world.answers("b"), "an answer")
        yield world


def now_ms():
    return time.time_ns() // 1_000_000


def order(number, **more):
    fields = {"member_id": f"m{number % 5}", "brand": "b", "occurred_at_ms": now_ms(), "status": "paid"}
    fields |= {"amount_fen": 10_000, "commission_fen": 1000, "store_id": "s", "served_by": "g2"}
    return Order(order_id=f"o{number}", **fields | more)


def earned(world, kind, name):
    held = world.redis.hgetall(f"lr:{{b/money}}:earnings:{kind}:{name}")
    return sum(int(fen) for field, fen in held.items() if field.startswith(b"p|"))


def test_orders_and_refunds_become_earnings_within_a_second_and_verify_finds_nothing(world):
    bound = [
        Binding(
            command_id=f"c{n}",
            member_id=f"m{n}",
            brand="b",
            occurred_at_ms=now_ms() - 1000,
            kind="bind",
            guide_id="g1",
        )
        for n in range(5)
    ]
    world.publish(BINDINGS, *bound)
    world.publish(ORDERS, *(order(n) for n in range(40)))
    world.until(lambda: earned(world, "store", "s") == 40_000, "40 orders")
    began = time.monotonic()
    world.publish(ORDERS, order(40))
    world.until(lambda: earned(world, "region", "East") == 41_000, "one more")
    assert time.monotonic() - began < 1
    refunds = [order(n, status="refunded", refund_id="r", commission_fen=500) for n in range(41)]
    world.publish(ORDERS, *refunds, *refunds[:5])
    world.until(lambda: earned(world, "store", "s") == 20_500, "refunds")
    command = LedgerCommand(
        command_id="k", brand="b", kind="dispute", actor="ann", occurred_at_ms=now_ms(), order_id="o1"
    )
    world.publish(LEDGER_COMMANDS, command)
    world.until(
        lambda: b'"frozen":true' in (world.redis.hget("lr:{b/money}:order:o1", "s") or b""), "a dispute"
    )
    world.until(lambda: not world.redis.exists("lr:{b/money}:unpublished"), "everything published")
    assert world.metrics()["ledger_imbalance_fen",] == 0
    assert world.metrics()["ledger_chain_ok",] == 1
    world.worker.stop()
    assert told(world, "verify", 0).endswith("redis: as the log says\n")


def test_a_redis_that_was_wiped_gets_its_books_back_and_posting_goes_on(world):
    world.publish(ORDERS, *(order(n) for n in range(20)))
    world.until(lambda: earned(world, "store", "s") == 20_000, "20 orders")
    world.until(lambda: not world.redis.exists("lr:{b/money}:unpublished"), "everything published")
    world.redis.flushall()
    world.publish(ORDERS, *(order(n) for n in range(20, 40)))
    world.until(lambda: earned(world, "store", "s") == 40_000, "40 orders")
    world.until(lambda: not world.redis.exists("lr:{b/money}:unpublished"), "everything published")
    world.worker.stop()
    assert told(world, "verify", 0).endswith("redis: as the log says\n")

"""Money on a real server: what sales, refunds and commands become, once, whatever happens in between."""

from __future__ import annotations

import pytest

from router.local import EmbeddedRedis
from tests.ledger_world import BEGIN_MS, DAY_MS, NEXT, PERIOD, book_of, line, refund, sale
from topics.catalog import COMMISSIONS, DEAD_LETTERS, LEDGER_COMMANDS, ORDERS


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


def test_a_sale_is_pending_and_its_book_audits_clean(server):
    """M2"""

    async def story(world):
        await world.put(sale())
        assert world.balances("commission") == {"group": -1000}
        assert sum(world.balances("pending").values()) == 1000
        assert world.audit().faults == []
        assert world.dead() == []

    book_of(server, story)

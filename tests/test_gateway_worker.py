"""A guide's answer on its whole way: gateway, broker, worker, and back; on embedded and on real parts."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway_world import running
from tests.test_end_to_end import lead, shop, world  # noqa: F401 - the running worker is a fixture
from topics.catalog import LEADS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_what_a_guide_answers_is_applied_once_and_what_is_not_theirs_is_refused(world):  # noqa: F811
    """Taken, contacted and won by the page's own call; a repeat is the same answer."""
    brand = "gateway"
    shop(world, brand)
    world.publish(LEADS, lead(brand, "asked"))
    [answer] = world.answer(brand, "asked")
    world.until(lambda: world.inboxes() == world.live(), "in the inbox")
    holder = answer["guide_id"]

    async def story():
        async with running(world.kafka_url, world.redis_url, world.prefix, alone=False) as gateway:
            body = {"response_id": "r1", "lead_id": "asked", "kind": "lead", "action": "accepted"}
            # the same id retries while the gateway looks for its broker
            said = [await gateway.post(body, holder, brand=brand)]
            while said[0][0] in {202, 503}:
                said = [await gateway.post(body, holder, brand=brand)]
            said.append(await gateway.post(body, holder, brand=brand))
            assert said == [(200, {"outcome": "applied", "state": "accepted", "seq": 2})] * 2
            other = await gateway.post(body | {"response_id": "r2"}, "somebody", brand=brand)
            assert other[0] == 404
            again = await gateway.post(body | {"response_id": "r3"}, holder, brand=brand)
            assert (again[0], again[1]["outcome"]) == (409, "illegal")
            for number, action in enumerate(("contacted", "won"), 4):
                fields = {"response_id": f"r{number}", "action": action}
                status, told = await gateway.post(body | fields, holder, brand=brand)
                assert (status, told["state"]) == (200, action)

    asyncio.run(story())
    world.until(lambda: len(world.answers(brand)["lead", "asked"]) == 4, "published")
    assert [each["state"] for each in world.answers(brand)["lead", "asked"]] == [
        *("offered", "accepted", "contacted", "won"),
    ]

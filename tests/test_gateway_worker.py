"""A guide's answer on its whole way: gateway, broker, worker, and back; on embedded and on real parts."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import expect

from tests.browser import phone
from tests.gateway_world import running, token
from tests.test_end_to_end import lead, shop, world  # noqa: F401 - the running worker is a fixture
from topics.catalog import LEADS

#: Where the shop of `shop` is.
HERE = {"store_id": "s1", "market": "here"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def offered(world, brand, name):  # noqa: F811 - the fixture, too
    """Who got a lead of a new shop and has it in the inbox."""
    shop(world, brand)
    world.publish(LEADS, lead(brand, name))
    [answer] = world.answer(brand, name)
    world.until(lambda: world.inboxes() == world.live(), "in the inbox")
    return answer["guide_id"]


def steps(world, brand, name):  # noqa: F811 - the fixture, too
    """The records of a lead, of each step the first: what is said again is answered by the same ones."""
    first = {}
    for each in world.answers(brand)["lead", name]:
        first.setdefault(each["seq"], each)
    return [first[seq] for seq in sorted(first)]


async def known(gateway, body, guide, brand):
    """Say it until there is an answer: card or outcome is on its way, or the gateway looks for its broker."""
    for _ in range(200):
        said = await gateway.post(body, guide, brand=brand, where=HERE)
        if said[0] not in {202, 404, 429, 503}:
            break
        await asyncio.sleep(0.3)
    return said


def test_what_a_guide_answers_is_applied_once_and_what_is_not_theirs_is_refused(world):  # noqa: F811
    """Taken, contacted and won by the page's own call; a repeat is the same answer."""
    brand = "gateway"
    holder = offered(world, brand, "asked")

    async def story():
        async with running(world.kafka_url, world.redis_url, world.prefix, alone=False) as gateway:
            body = {"response_id": "r1", "lead_id": "asked", "kind": "lead", "action": "accepted"}
            said = [await known(gateway, body, holder, brand)]
            said.append(await gateway.post(body, holder, brand=brand))
            assert said == [(200, {"outcome": "applied", "state": "accepted", "seq": 2})] * 2
            other = await gateway.post(body | {"response_id": "r2"}, "somebody", brand=brand)
            assert other[0] == 404
            again = await known(gateway, body | {"response_id": "r3"}, holder, brand)
            assert (again[0], again[1]["outcome"]) == (409, "illegal")
            for number, action in enumerate(("contacted", "won"), 4):
                fields = {"response_id": f"r{number}", "action": action}
                status, told = await known(gateway, body | fields, holder, brand)
                assert (status, told["state"]) == (200, action)

    asyncio.run(story())
    world.until(lambda: len(steps(world, brand, "asked")) == 4, "published")
    assert [each["state"] for each in steps(world, brand, "asked")] == [
        *("offered", "accepted", "contacted", "won"),
    ]


def test_a_lead_that_all_have_declined_waits_in_the_pool_until_a_guide_takes_it(world):  # noqa: F811
    brand = "pool"
    first = offered(world, brand, "nobodys")
    [second] = {"a", "b"} - {first}

    async def story():
        async with running(world.kafka_url, world.redis_url, world.prefix, alone=False) as gateway:

            async def says(action, guide, response_id):
                body = {"response_id": response_id, "lead_id": "nobodys", "kind": "lead", "action": action}
                return await known(gateway, body, guide, brand)

            assert (await says("declined", first, "r1"))[0] == 200
            assert (await says("declined", second, "r2"))[1]["state"] == "waiting"
            assert (await gateway.pool(first, brand=brand, **HERE))[0] == ["nobodys"]
            assert (await says("grabbed", first, "r3"))[1]["state"] == "accepted"
            assert (await gateway.pool(first, brand=brand, **HERE))[0] == []

    asyncio.run(story())
    world.until(lambda: len(steps(world, brand, "nobodys")) == 7, "published")
    told = [(each["state"], each.get("guide_id")) for each in steps(world, brand, "nobodys")]
    assert told[-3:] == [("waiting", None), ("offered", first), ("accepted", first)]


@pytest.mark.real
@pytest.mark.usefixtures("browser")
def test_a_card_reaches_the_page_of_its_guide_and_is_accepted_there(world):  # noqa: F811
    """Nobody plays a part: a lead comes in, a worker routes it, a browser shows it, a finger takes it."""
    brand = "page"
    holder = offered(world, brand, "shown")

    async def story():
        async with (
            running(world.kafka_url, world.redis_url, world.prefix, alone=False) as gateway,
            phone(locale="zh-CN") as page,
        ):
            await page.goto(f"{gateway.base}/#token={token(holder, brand)}")
            card = page.locator(".card")
            await expect(card.locator(".ids")).to_contain_text("shown")
            await expect(card.locator(".why")).to_be_visible()
            await expect(card.locator(".left")).to_contain_text("剩余")
            await card.get_by_role("button", name="接手").click()
            await expect(card.get_by_role("button", name="已联系")).to_be_enabled()
            assert page.complaints == []

    asyncio.run(story())
    world.until(lambda: len(steps(world, brand, "shown")) == 2, "published")
    records = [(each["state"], each["guide_id"]) for each in steps(world, brand, "shown")]
    assert records == [("offered", holder), ("accepted", holder)]

"""The page in a real browser on a phone's screen: cards come, answers go, hostile text stays text."""

from __future__ import annotations

import time
from functools import partial

import pytest
from playwright.async_api import expect

from router.local import EmbeddedRedis
from router.state import keys
from tests.browser import phone
from tests.gateway_world import BRAND, beside, made, running, token
from tests.parts import free_ports
from topics.assignments import Action, GuideRecord

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("browser")]

HOSTILE = "<img src=x onerror=alert(1)>\u202e<script>alert(2)</script>“&amp;”"


@pytest.fixture
async def scene(embedded_kafka, prefix):
    with EmbeddedRedis() as redis:
        async with running(embedded_kafka.url, redis.url, prefix) as scene:
            yield scene


async def play_router(scene):
    """What follows each response: its outcome, and the record of the lead's next state."""
    ends = {"declined", "won", "lost"}
    async for _, said in scene.responses():
        await scene.write_outcome(said, state=said.action)
        seq = {"accepted": 2, "grabbed": 2, "contacted": 3, "visited": 4}.get(said.action, 5)
        guide = None if said.action in ends else said.guide_id
        state = "accepted" if said.action == "grabbed" else said.action
        await scene.project(made(said.lead_id, seq, state, guide or said.guide_id))


async def test_t13_f49_a_guide_works_through_their_cards(scene):
    """From the link with its token to the empty inbox, in Chinese and in English."""
    async with phone(locale="zh-CN") as page, beside(play_router(scene)):
        await page.goto(f"{scene.base}/#token={token('g')}")
        await expect(page.get_by_text("暂无待办")).to_be_visible()
        assert page.url == f"{scene.base}/"  # the token is nowhere to be copied from
        assert await page.evaluate("document.cookie") == ""

        # a card appears by itself, with what to do, by when and why; hostile text is text
        action = Action(code="contact.near", text=f"请在5分钟内联系{HOSTILE}：您就在附近且有空档。")  # noqa: RUF001
        await scene.project(made("first", action=action), made("theirs", guide_id="h"))
        card = page.locator(".card")
        await expect(card.locator(".what")).to_have_text(f"请在5分钟内联系{HOSTILE}")
        await expect(card.locator(".why")).to_contain_text("您就在附近且有空档。")
        await expect(card.locator(".left")).to_contain_text("剩余 04:")
        assert await page.locator(".card img, .card script").count() == 0
        assert await page.title() == "(1) 待办线索"

        # accepted: the same card asks for the next step, then the next
        await card.get_by_role("button", name="接手").click()
        await expect(card.locator(".what")).to_contain_text("请在时限内联系这位会员")
        await card.get_by_role("button", name="已联系").click()
        await expect(card.get_by_role("button", name="已到店")).to_be_enabled()

        # the second language, then a card that is declined there
        await page.get_by_role("button", name="English").click()
        await expect(card.locator(".what")).to_contain_text("Invite them to the store")
        await scene.project(made("second"))
        await expect(card).to_have_count(2)
        await page.get_by_role("button", name="Decline").click()
        await expect(card).to_have_count(1)
        await card.get_by_role("button", name="Visited").click()
        await card.get_by_role("button", name="Won", exact=True).click()
        await expect(page.get_by_text("Nothing to do")).to_be_visible()

        assert [(said.lead_id, said.action, said.guide_id) for _, said in scene.heard] == [
            ("first", "accepted", "g"),
            ("first", "contacted", "g"),
            ("second", "declined", "g"),
            ("first", "visited", "g"),
            ("first", "won", "g"),
        ]
        assert page.complaints == []


async def test_a_guide_takes_a_lead_that_waits_at_their_store(scene):
    await scene.wait_in_pool(
        f"@hq/store/s|0|{time.time_ns() // 1_000_000 - 300_000}|near|lead|{'long' * 9}|m-1",
        "@hq/store/s|2|1|near|lead|other|m-2",
    )
    async with phone(locale="zh-CN") as page, beside(play_router(scene)):
        await page.goto(f"{scene.base}/#token={token('g', store_id='s')}")
        rows = page.locator(".row")
        await expect(page.locator("#pool h2")).to_have_text("门店待领取")
        await expect(rows.first).to_contain_text("VIP · 线索 · long")
        await expect(rows.first).to_contain_text("已等 5 分钟")
        await page.get_by_role("button", name="English").click()

        # a card that comes takes no button from under a finger
        take = rows.last.get_by_role("button", name="Take")
        await take.focus()
        await scene.project(made("card"))
        await expect(page.locator(".card .ids")).to_contain_text("card")
        await expect(take).to_be_focused()

        await rows.first.get_by_role("button", name="Take").click()
        await expect(page.locator(".card .ids").filter(has_text="long")).to_be_visible()
        [(_, said)] = scene.heard
        assert (said.action, said.guide_id, said.member_id) == ("grabbed", "g", "m-1")

        # what somebody else has taken meanwhile
        await scene.redis.delete(keys.waiting(f"{BRAND}/-"))
        await rows.last.get_by_role("button", name="Take").click()
        await expect(page.locator("#poolSaid")).to_contain_text("Somebody was quicker")
        await expect(rows).to_have_count(0)
        assert page.complaints == []


async def test_f57_the_page_comes_back_after_the_gateway_was_gone(embedded_kafka, prefix):
    """It speaks the language that the browser asks for, and tells who is signed out, or paused and why."""
    [port] = free_ports(1)
    with EmbeddedRedis() as redis:
        gateway = partial(running, embedded_kafka.url, redis.url, prefix, port=port)
        async with phone(locale="en-GB") as page:
            async with gateway() as scene:
                await page.goto(f"{scene.base}/")
                await expect(page.get_by_text("You are signed out")).to_be_visible()
                await page.goto(f"{scene.base}/#token={token('g')}")
                await expect(page.locator("#link")).to_have_text("Connected")
                await scene.project(made("first"))
                await expect(page.locator(".card")).to_have_count(1)
            await expect(page.locator("#link")).to_have_text("Reconnecting…")
            async with gateway() as scene:
                hour_ms = time.time_ns() // 1_000_000 + 3_600_000
                silent = GuideRecord(
                    answered=0, offered=3, won=0, closed=0, silent=0, paused_until_ms=hour_ms, at_ms=1
                )
                await scene.project(made("second"), made("first", 2, "expired", record=silent))
                await expect(page.locator("#paused")).to_be_visible()
                await page.reload()
                await expect(page.locator("#paused")).to_contain_text("No new leads until")
                await expect(page.locator("#paused")).to_be_visible()
                await expect(page.locator(".card .ids")).to_contain_text("second")
                await expect(page.locator(".card")).to_have_count(1)
            assert page.complaints == []

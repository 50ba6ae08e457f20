"""Before a window to answer closes, who is responsible is reminded, once, within the caps."""

from __future__ import annotations

import asyncio

import pytest

from router.local import EmbeddedRedis
from router.outbox import Outbox
from router.reference import Reference
from router.rules.ownership import Contract, Fact, follow
from router.rules.touches import HOUR_MS, Touched, closes_ms, remind_ms
from router.state.members import Members
from router.state.redis import Scripts
from router.windows import Windows
from scoring.policy import Policy
from tests.parts import PATIENT_S
from topics.catalog import GUIDES, LEADS, MEMBERS, POLICIES, STORES
from topics.codec import decode, encode, key_of, partition_of
from topics.guides import Guide
from topics.leads import Lead
from topics.members import Member
from topics.policies import Policy as PolicyEvent
from topics.stores import Store

NOW_MS = 1_790_000_000_000
#: When the member did something whose window closes in six hours, and the reminder has been due for a while.
IN_MS = NOW_MS - 43 * HOUR_MS
TOML = "reminder_cap_per_day = 2\ncontact_cap_per_day = 1\n"


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


def known(*events):
    reference = Reference(lambda *_: None)
    store = Store(store_id="s", brand="b", version=1, lat=31.0, lon=121.0, kind="franchise", active=True)
    guides = [
        Guide(guide_id=name, brand="b", version=1, store_id="s", active=True, capacity=9) for name in "gh"
    ]
    policy = PolicyEvent(brand="b", version=1, toml=TOML)
    for topic, event in ((STORES, store), *((GUIDES, each) for each in guides), (POLICIES, policy), *events):
        reference.apply(topic, key_of(topic, event), encode(event))
    reference.refresh(NOW_MS)
    return reference


def came_in(member_id, at_ms=IN_MS):
    return Touched("b", member_id, at_ms, f"t{at_ms}|view|||", "", "", came_in=True)


def contacted(member_id, at_ms, touch_id="out"):
    return Touched("b", member_id, at_ms, f"{touch_id}|message|out|h|", "h", touch_id, came_in=False)


def remind(server, story, *events, owners=("m",), touches=()):
    """Run a story with the windows of a brand whose members of g have these touches."""

    async def whole():
        scripts = Scripts(server.url, timeout_s=PATIENT_S)
        try:
            await scripts.redis.flushall()
            members = Members(scripts)
            for member_id in owners:
                bound = follow(Contract(), [Fact(1, "c", "bind", "g")])
                assert await members.write([(("b", member_id), b"", bound)]) == [True]
            await members.touch(touches)
            outbox = Outbox("t.", {"t.leads": 7})
            return await story(Windows(members, known(*events), outbox, lambda: ["b", "other"]))
        finally:
            await scripts.close()

    return asyncio.run(whole())


async def once(windows):
    return [decode(Lead, record.value).member_id for record in await windows.due(NOW_MS)]


def test_the_owner_is_reminded_by_a_lead_that_is_for_nobody_else(server):
    async def story(windows):
        [record] = await windows.due(NOW_MS)
        lead = decode(Lead, record.value)
        assert record[:3] == ("t." + LEADS.name, partition_of(b"m", 7), b"m")
        assert (lead.brand, lead.member_id, lead.only_owner, lead.source.channel) == (
            "b",
            "m",
            True,
            "window",
        )
        assert lead.occurred_at_ms == remind_ms("b", "m", IN_MS, Policy())

    remind(server, story, touches=[came_in("m")])


def test_a_reminder_comes_again_to_the_byte_until_the_broker_has_it_and_never_after(server):
    """A worker that dies in between leaves it due; the id makes one lead of both."""

    async def story(windows):
        first = await windows.due(NOW_MS)
        assert len(first) == 1
        assert await windows.due(NOW_MS + 1) == first
        await windows.done()
        assert await windows.due(NOW_MS + 2) == []

    remind(server, story, touches=[came_in("m")])


def test_what_the_member_does_meanwhile_opens_the_next_window(server):
    async def story(windows):
        assert await once(windows) == ["m"]
        await windows.members.touch([came_in("m", NOW_MS)])
        await windows.done()
        assert await once(windows) == []
        later = await windows.due(remind_ms("b", "m", NOW_MS, Policy()))
        assert len(later) == 1

    remind(server, story, touches=[came_in("m")])


def test_a_reminder_comes_neither_before_its_time_nor_after_the_close(server):
    async def story(windows):
        at_ms = remind_ms("b", "m", IN_MS, Policy())
        assert await windows.due(at_ms - 1) == []
        await windows.done()
        assert len(await windows.due(at_ms)) == 1
        assert await windows.due(closes_ms(IN_MS, Policy())) == []
        await windows.done()
        assert await windows.due(at_ms) == []

    remind(server, story, touches=[came_in("m")])


def test_nobody_is_reminded_of_a_member_of_nobody(server):
    gone = Guide(guide_id="g", brand="b", version=2, store_id="elsewhere", active=True)
    assert remind(server, once, owners=(), touches=[came_in("m")]) == []
    assert remind(server, once, (GUIDES, gone), touches=[came_in("m")]) == []


def test_the_store_of_a_guide_who_has_left_is_reminded_of_their_members_within_the_cap(server):
    async def story(windows):
        leads = [decode(Lead, record.value) for record in await windows.due(NOW_MS)]
        assert [(lead.store_id, lead.only_owner) for lead in leads] == [("s", False)] * 2

    left = Guide(guide_id="g", brand="b", version=2, store_id="s", active=False)
    members = ("m1", "m2", "m3")
    remind(server, story, (GUIDES, left), owners=members, touches=[came_in(each) for each in members])


@pytest.mark.parametrize(("cap", "reminded"), [(None, []), (2, ["m"]), (0, [])])
def test_a_member_who_was_contacted_enough_by_anybody_is_left_in_peace(server, cap, reminded):
    """By the policy once a day, or by the member's own cap."""
    member = Member(member_id="m", brand="b", version=1, contact_cap=cap)
    touches = [came_in("m"), contacted("m", NOW_MS - HOUR_MS), contacted("m", NOW_MS - HOUR_MS)]
    assert remind(server, once, (MEMBERS, member), touches=touches) == reminded


def test_a_contact_of_yesterday_counts_no_more(server):
    assert remind(server, once, touches=[came_in("m"), contacted("m", NOW_MS - 25 * HOUR_MS)]) == ["m"]


def test_a_guide_gets_no_more_than_a_days_reminders_the_longest_silent_members_first(server):
    async def story(windows):
        assert await once(windows) == ["m3", "m2"]
        await windows.done()
        return await once(windows)

    members = ("m1", "m2", "m3")
    touches = [came_in(member_id, IN_MS - n * HOUR_MS) for n, member_id in enumerate(members)]
    assert remind(server, story, owners=members, touches=touches) == []

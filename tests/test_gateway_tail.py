"""F57, F58, F59 without a network: what one connection is told is what the inbox holds, whatever happens."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import OutageError
from router.local import EmbeddedRedis
from router.state import keys
from router.state.arbiter import Arbiter, Card
from router.state.redis import Scripts
from router.web.channel import PENDING_BYTES_MAX, Channel
from router.web.reading import NOWHERE, START, Reading, place
from router.web.tail import CHANNELS_MAX, Tail
from tests.gateway_desk import GUIDE, LOG, Desk, Phone
from tests.gateway_world import made


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


def tell(server, story):
    async def whole():
        scripts = Scripts(server.url)
        try:
            await scripts.redis.flushall()
            desk = Desk(scripts)
            await desk.whole()
            return await story(desk)
        finally:
            await scripts.close()

    return asyncio.run(whole())


def test_f57_cards_missed_while_away_come_once_and_no_others(server):
    async def story(desk):
        phone = Phone()
        await desk.project(made("a"))
        await desk.join(phone)
        assert await phone.read() == ["snapshot"]
        await desk.project(made("b"))
        await desk.look()
        assert await phone.read() == ["card"]
        desk.leave(phone)
        await desk.project(made("c"), made("a", 2, "declined"))
        await desk.join(phone)
        assert await phone.read() == ["card", "gone"]
        assert phone.cards == {"b": 1, "c": 1}
        desk.leave(phone)
        await desk.join(phone)
        assert await phone.read() == []

    tell(server, story)


def test_f57_a_trimmed_feed_means_reload_and_snapshot_never_a_part(server):
    async def story(desk):
        phone = Phone()
        await desk.project(made("a"), made("b"))
        await desk.join(phone)
        await phone.read()
        desk.leave(phone)
        await desk.project(made("b", 2, "expired"), made("c"), made("d"))
        await desk.redis.xtrim(keys.feed(*GUIDE), 2, approximate=False)
        await desk.join(phone)
        assert await phone.read() == ["reload", "snapshot"]
        assert phone.cards == {"a": 1, "c": 1, "d": 1}
        # while connected, too: more has come between two looks than a feed holds
        await desk.project(made("e"), made("a", 2, "expired"))
        await desk.redis.xtrim(keys.feed(*GUIDE), 1, approximate=False)
        await desk.look()
        assert await phone.read() == ["reload", "snapshot"]
        assert phone.cards == {"c": 1, "d": 1, "e": 1}

    tell(server, story)


def test_f57_a_feed_that_began_after_the_client_did_is_whole_until_it_is_trimmed(server):
    async def story(desk):
        early, late = Phone(), Phone()
        await desk.join(early)
        assert (await early.read(), early.after) == (["snapshot"], START)
        await desk.project(made("a"))
        await desk.look()
        assert await early.read() == ["card"]
        late.after = START
        await desk.project(made("b"))
        await desk.join(late)
        assert await late.read() == ["card", "card"]
        desk.leave(late)
        late.after = START
        await desk.redis.xtrim(keys.feed(*GUIDE), 1, approximate=False)
        await desk.join(late)
        assert await late.read() == ["reload", "snapshot"]
        assert late.cards == {"a": 1, "b": 1}

    tell(server, story)


def test_f57_a_redis_that_was_wiped_and_rebuilt_means_reload_and_snapshot(server):
    async def story(desk):
        stays, returns = Phone(), Phone()
        await desk.project(made("a"), made("b"))
        for phone in (stays, returns):
            await desk.join(phone)
            await phone.read()
        desk.leave(returns)
        await desk.redis.flushall()
        with pytest.raises(OutageError):  # nobody is told that they have no cards
            await desk.join(returns)
        records, desk.records = desk.records, []
        await desk.project(records[0])  # a worker has begun to apply the log
        with pytest.raises(OutageError):
            await desk.look()
        assert await stays.read() == []
        desk.records = records
        await desk.rebuild()
        await desk.look()
        assert await stays.read() == ["reload", "snapshot"]
        await desk.join(returns)
        assert await returns.read() == ["reload", "snapshot"]
        assert stays.cards == returns.cards == {"a": 1, "b": 1}

    tell(server, story)


@pytest.mark.parametrize("named", ["x", "1", "-", "99999999999999999999-0", "1-1\n", "١-٠", "0-1", "5-5"])  # noqa: RUF001
def test_f57_a_place_that_is_none_is_answered_with_all_there_is(server, named):
    async def story(desk):
        phone = Phone()
        phone.after = named
        await desk.project(made("a"))
        await desk.join(phone)
        assert await phone.read() == ["reload", "snapshot"]

    assert place("") == ""
    assert place(named) in {named, NOWHERE}
    tell(server, story)


LEADS, STEPS = "abc", ("project", "look", "drop", "join", "trim", "wipe")


async def take_step(desk, phone, step, made_now):
    """One of the things that may happen; whatever does not apply is a look."""
    if step == "project":
        await desk.project(made_now)
    elif step == "drop" and phone.channel:
        desk.leave(phone)
    elif step == "join" and not phone.channel:
        await desk.join(phone)
    elif step == "trim":
        await desk.redis.xtrim(keys.feed(*GUIDE), 1, approximate=False)
    elif step == "wipe":
        await desk.redis.flushall()
        await desk.rebuild()
    else:
        await desk.look()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(STEPS), st.sampled_from(LEADS), st.sampled_from(("seen", "declined"))),
        max_size=25,
    )
)
def test_f57_no_hole_and_no_double_whatever_happens(server, steps):
    """Two phones that come and go: in the end each shows the inbox, and no entry was told twice."""

    async def story(desk):
        phones = [Phone(), Phone()]
        for number, (step, lead, state) in enumerate(steps, 1):
            await take_step(desk, phones[lead == "a"], step, made(lead, number, state))
            for phone in phones:
                await phone.read()
        await desk.look()
        held = await desk.inbox()
        for phone in phones:
            await phone.read()
            if not phone.channel:
                await desk.join(phone)
                await phone.read()
            assert phone.cards == held

    tell(server, story)


def test_f58_when_all_come_at_once_each_is_read_once_in_few_round_trips(server):
    guides = [("b", f"g{number}") for number in range(1000)]

    async def story(desk):
        for guide in guides:
            await desk.project(made("a", guide_id=guide[1]), guide=guide)
        channels = [Channel("zh") for _ in guides]
        run, trips, calls = desk.scripts.run, [], []

        async def counted(batch):
            trips.append(1)
            calls.extend(call for call in batch if call.script == "catch_up")
            return await run(batch)

        desk.scripts.run = counted
        reading = asyncio.create_task(desk.tail.run())
        await asyncio.gather(
            *[desk.tail.join(*each) for each in zip(guides, [""] * len(guides), channels, strict=True)]
        )
        reading.cancel()
        assert len(calls) == len(guides)
        assert len(trips) < 10
        for channel in channels:
            assert b"snapshot" in (await channel.take(0))[0]

    tell(server, story)


def test_f59_a_slow_channel_is_ended_at_its_bound_and_the_others_go_on(server):
    async def story(desk):
        slow, quick = Phone(), Phone()
        await desk.join(slow)
        await desk.join(quick)
        for number in range(900):
            await desk.project(made(f"l{number}"))
            if number % 9 == 0:
                await desk.look()
                await quick.read()
        assert (slow.channel.over, quick.channel.over) == ("slow", None)
        chunk, _ = await slow.channel.take(0)
        assert len(chunk) <= PENDING_BYTES_MAX + 10_000

    tell(server, story)


def test_t12_a_guide_has_so_many_connections_and_the_oldest_makes_room(server):
    async def story(desk):
        phones = [Phone() for _ in range(CHANNELS_MAX + 1)]
        for phone in phones:
            await desk.join(phone)
        assert [phone.channel.over for phone in phones] == ["elsewhere"] + [None] * CHANNELS_MAX
        assert desk.tail.channels == CHANNELS_MAX
        for phone in phones:
            desk.leave(phone)
        assert desk.tail.channels == 0

    tell(server, story)


def test_t01_no_feed_but_ones_own_is_told(server):
    async def story(desk):
        phone = Phone()
        await desk.join(phone, ("b", "g"))
        await desk.project(made("x", guide_id="h"), guide=("b", "h"))
        await desk.project(made("y", brand="c"), guide=("c", "g"))
        await desk.look()
        assert (await phone.read(), phone.cards) == (["snapshot"], {})

    tell(server, story)


def test_f20_f21_an_outage_refuses_who_joins_and_passes(server):
    async def story():
        scripts = Scripts("unix:///nowhere")
        tail = Tail(Reading(scripts, LOG))
        reading = asyncio.create_task(tail.run())
        with pytest.raises(OutageError):
            await tail.join(GUIDE, "", Channel("zh"))
        assert not tail.well
        tail._reading = Reading(Scripts(server.url), LOG)
        await Arbiter(tail._reading._scripts).note_identities(LOG, {"server": 0})
        await tail.join(GUIDE, "", Channel("zh"))
        assert tail.well
        reading.cancel()
        await tail._reading._scripts.close()

    asyncio.run(story())


def test_a_record_of_a_later_version_hides_no_other(server):
    async def story(desk):
        phone = Phone()
        await desk.join(phone)
        await desk.project(made("a"))
        for lead in ("lead|new", "lead|newer"):
            await Arbiter(desk.scripts).deliver_cards(
                [Card(*GUIDE, lead, 1, 9, b'{"state":"promised"}', live=True)]
            )
        await desk.project(made("b"))
        await desk.look()
        assert await phone.read() == ["snapshot", "card", "card"]
        desk.leave(phone)
        phone.after = ""
        await desk.join(phone)
        assert (await phone.read(), phone.cards) == (["snapshot"], {"a": 1, "b": 1})

    tell(server, story)

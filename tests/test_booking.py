"""Reservations as stories: slots that are sold once, holds, changes, visits, and the guide of the day."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio.connection import AbstractConnection

from router.errors import OutageError
from router.local import EmbeddedRedis
from router.rebuild import differences
from router.replay import Replay
from router.rules.horizon import REMEMBER_MS
from router.state import keys
from tests.lifecycle_world import BEGIN_MS, Record, booked, guide, lead, live, policy, presence, store
from topics.catalog import ASSIGNMENTS, RESERVATIONS, RESPONSES
from topics.codec import encode
from topics.guides import Period
from topics.responses import Response

HOUR_MS = 3_600_000
#: Within a day, so that a guide is looked for at once.
SOON_MS = BEGIN_MS + 2 * HOUR_MS
LATER_MS = BEGIN_MS + 40 * HOUR_MS


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


def fitting(slots=1, **more):
    """A store that has so many places at a time for its service."""
    return store(version=2, slots={"fit": slots}, slot_minutes=60, **more)


def visit(name="l", starts_ms=SOON_MS, hours=1, **more):
    times = {"starts_at_ms": starts_ms, "ends_at_ms": starts_ms + hours * HOUR_MS}
    return booked(name, service="fit", **{**times, **more})


async def taken(world):
    """How often each slot is taken, by its start in hours from the beginning."""
    members = await world.redis.zrange(keys.slots("b/-"), 0, -1)
    starts = Counter(int(member.decode().split("|")[2]) for member in members)
    return {(at - BEGIN_MS + BEGIN_MS % HOUR_MS) // HOUR_MS: count for at, count in starts.items()}


def reasons_of(world, name):
    return [each.get("reason") for each in world.records(name)]


def test_a_slot_is_sold_once_and_who_comes_second_is_told(server):
    async def story(world):
        await world.put(visit("a"))
        await world.put(visit("b", member_id="n"))
        assert (world.state("a"), reasons_of(world, "b")) == ("offered g", ["slot_full"])
        assert world.state("b").startswith("closed")
        assert set((await taken(world)).values()) == {1}

    live(server, story, fitting(), guide("g", capacity=9))


def as_records(*events):
    return [Record("reservations", 0, 0, b"m", encode(event), (), BEGIN_MS) for event in events]


def test_a_batch_of_reservations_costs_the_round_trips_of_one_whatever_their_times(server, monkeypatch):
    """Each time is ranked by itself, since guides come and go; Redis is asked once for all."""

    async def story(world):
        sent, send = [], AbstractConnection.send_packed_command

        async def counted(self, command, *rest):
            sent.append(command)
            await send(self, command, *rest)

        monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)

        async def trips(name, count):
            sent.clear()
            visits = [visit(f"{name}{at}", SOON_MS + at * HOUR_MS) for at in range(count)]
            await world.flow.route(RESERVATIONS, as_records(*visits))
            return len(sent)

        await trips("before", 1)  # scripts are sent the first time
        assert await trips("many", 60) == await trips("one", 1) <= 6
        states = Counter(world.state(f"many{at}").split()[0] for at in range(60))
        assert set(states) == {"offered", "waiting"}

    live(server, story, fitting(slots=9), guide("g", capacity=99))


def test_whichever_record_of_a_reservation_is_restored_first_redis_is_as_the_log_says(server):
    """Records of one lead may stand in the log in another order than they were made: a worker tried again."""

    async def story(world):
        once, twice = visit("a"), visit("a", SOON_MS + 4 * HOUR_MS, version=2, status="changed")
        await world.put(once)
        await world.say("accepted", "a", guide_id="g", kind="reservation")
        await world.put(twice)
        await world.say("contacted", "a", guide_id="g", kind="reservation")
        log = world.log[ASSIGNMENTS.name]
        told, held = list(log), await taken(world)
        assert len(told) == 4
        for order in permutations(told):
            log[:] = order
            await world.redis.flushall()
            await world.restore()
            story = await world.redis.hgetall(keys.lead("b/-", "reservation", "a"))
            assert (story[b"v"], story[b"q"], await taken(world)) == (b"2", b"4", held)
            await world.put(once, twice)
            assert len(log) > len(told)  # the stored answers, once more
            assert world.story("a") == ["offered g", "accepted g", "accepted g", "contacted g"]

    live(server, story, fitting(), guide("g", capacity=9))


def test_a_change_takes_the_new_and_frees_the_old_or_leaves_all_as_it_is(server):
    async def story(world):
        next_ms = SOON_MS + 2 * HOUR_MS
        await world.put(visit("a"), visit("b", next_ms, member_id="n"))
        before = await taken(world)
        await world.put(visit("a", next_ms, version=2, status="changed"))
        assert (world.dead_letters(), await taken(world)) == (["slot_full"], before)
        await world.put(visit("b", next_ms, version=2, status="cancelled", member_id="n"))
        await world.put(visit("a", next_ms, version=3, status="changed"))
        assert [each["state"] for each in world.records("a")] == ["offered", "offered"]
        assert world.records("a")[1]["reservation"]["starts_at_ms"] == next_ms
        assert (len(before), len(await taken(world))) == (4, 2)
        await world.put(visit("c", member_id="o"))
        assert world.state("c").startswith("offered")

    live(server, story, fitting(), guide("g", capacity=9))


def test_a_lower_version_is_late_and_an_equal_one_the_same_answer(server):
    async def story(world):
        await world.put(visit("a", version=5))
        told = world.records("a")
        await world.put(visit("a", version=4, status="cancelled"), visit("a", version=5))
        assert world.records("a") == told

    live(server, story, fitting(), guide("g"))


def test_f42_a_version_with_other_content_is_a_conflict_and_a_higher_one_a_change(server):
    """Also of a version that is not the newest any more, and of what Redis has got back from the log."""

    async def story(world):
        once, twice = visit("a"), visit("a", SOON_MS + HOUR_MS, version=2, status="changed")
        cancelled = visit("a", version=3, status="cancelled")
        await world.put(once, visit("a", SOON_MS + 3 * HOUR_MS), twice, once)
        assert (world.story("a"), world.dead_letters()) == (["offered g", "offered g"], ["conflict"])
        others = (visit("a", needs=("hats",)), visit("a", SOON_MS, version=2, status="changed"))
        for flushed in (False, True):
            if flushed:
                await world.put(cancelled)
                await world.redis.flushall()
                await world.restore()
            told, held = world.records("a"), await taken(world)
            await world.put(*others, once, twice)
            assert (world.records("a"), await taken(world)) == (told, held)
            assert world.dead_letters() == ["conflict"] * (3 + 2 * flushed)
        await world.put(visit("a", version=3, status="no_show"), cancelled)
        assert (world.state("a"), world.dead_letters()) == ("withdrawn g", ["conflict"] * 6)
        assert await unlike_the_log(world) == {}

    live(server, story, fitting(slots=3), guide("g"))


def test_a_cancellation_frees_slot_and_guide_also_when_it_comes_first(server):
    async def story(world):
        await world.put(visit("a"))
        await world.put(visit("a", version=2, status="cancelled"))
        assert (world.story("a"), await world.load("g"), await taken(world)) == (
            *(["offered g", "withdrawn g"], 0, {}),
        )
        await world.put(visit("b", version=2, status="cancelled", member_id="n"))
        await world.put(visit("b", member_id="n"))
        assert [each["state"] for each in world.records("b")] == ["withdrawn"]
        assert await taken(world) == {}

    live(server, story, fitting(), guide("g"))


@pytest.mark.parametrize(("status", "state"), [("arrived", "visited g"), ("no_show", "lost g")])
def test_who_comes_is_visited_and_who_does_not_is_lost(server, status, state):
    async def story(world):
        await world.put(visit("a"))
        await world.put(visit("a", version=2, status=status))
        assert world.state("a") == state

    live(server, story, fitting(), guide("g"))


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_hold_ends_by_itself_unless_it_is_confirmed(server, confirmed):
    async def story(world):
        await world.put(visit("a", hold_until_ms=BEGIN_MS + 20_000))
        assert (world.state("a").split()[0], len(await taken(world)) > 0) == ("waiting", True)
        if confirmed:
            await world.put(visit("a", version=2, status="changed"))
        await world.wait(21)
        assert ("offered g" in world.story("a")) is confirmed
        assert world.state("a").startswith("closed") is not confirmed
        assert bool(await taken(world)) is confirmed

    live(server, story, fitting(), guide("g"))


def test_a_guide_is_occupied_from_the_horizon_on_and_is_one_of_those_on_shift_then(server):
    """Booked two days ahead it holds its slot; a day before a guide gets it, who is there at that hour."""

    def shift(begin_ms, end_ms):
        return (Period(from_ms=begin_ms, to_ms=end_ms),)

    async def story(world):
        await world.put(visit("a", LATER_MS))
        assert (world.state("a"), await world.load("then")) == ("waiting @hq/store/s/booked", 0)
        await world.wait(17 * 3600, step_s=1800)
        assert {each for each in world.story("a") if each.startswith("offered")} == {"offered then"}

    live(
        server,
        story,
        fitting(),
        guide("now", shifts=shift(BEGIN_MS, BEGIN_MS + 30 * HOUR_MS)),
        guide("then", shifts=shift(LATER_MS, LATER_MS + 9 * HOUR_MS)),
    )


@pytest.mark.parametrize("away", ["offline", "leave"])
def test_who_is_away_now_is_found_for_a_visit_when_they_are_back(server, away):
    """Not before, again and again: as long as they are away the claim gives them nothing."""
    back_ms = BEGIN_MS + 22_000
    leave = (Period(from_ms=BEGIN_MS, to_ms=back_ms),) if away == "leave" else ()

    async def story(world):
        if away == "offline":
            await world.put(presence("g", "offline"))
        await world.put(visit("a"))
        await world.wait(20)
        assert world.state("a") == "waiting @hq/store/s"
        assert not world.log[RESPONSES.name]
        if away == "offline":
            await world.put(presence("g", "online", BEGIN_MS + 1))
        await world.wait(8)
        assert world.state("a") == "offered g"

    live(server, story, fitting(), guide("g", leave=leave))


def test_a_change_keeps_the_guide_who_is_there_then_and_moves_on_otherwise(server):
    early, late = SOON_MS + HOUR_MS, SOON_MS + 9 * HOUR_MS

    def shift(begin_ms):
        return (Period(from_ms=begin_ms, to_ms=begin_ms + 4 * HOUR_MS),)

    async def story(world):
        await world.put(visit("a", early))
        assert world.state("a") == "offered morning"
        await world.put(visit("a", early + HOUR_MS, version=2, status="changed"))
        assert world.state("a") == "offered morning"
        await world.put(visit("a", late, version=3, status="changed"))
        assert world.story("a")[2:] == ["returned morning", "offered evening"]

    shifts = (guide("morning", shifts=shift(SOON_MS)), guide("evening", shifts=shift(late)))
    live(server, story, fitting(slots=3), *shifts)


def test_who_is_let_go_by_a_change_may_get_it_again(server):
    """It was the member who changed: a guide is nobody who has given the visit back."""

    async def story(world):
        await world.put(visit("a"))
        await world.put(visit("a", LATER_MS, version=2, status="changed"))
        assert world.story("a")[1:] == ["returned g", "waiting @hq/store/s/booked"]
        await world.put(visit("a", version=3, status="changed"))
        await world.tick()
        assert world.state("a") == "offered g"
        await world.say("declined", "a", kind="reservation", guide_id="g")
        await world.put(visit("a", SOON_MS + HOUR_MS, version=4, status="changed"))
        await world.tick()
        assert world.state("a").startswith("waiting")

    live(server, story, fitting(slots=3), guide("g"))


@pytest.mark.parametrize("waits", [False, True])
def test_a_change_to_another_store_is_served_by_its_guides(server, waits):
    """In the same market: the old store's guide stays there, who waits does so in the new store's queue."""

    async def story(world):
        await world.put(visit("a"))
        assert world.state("a") == ("waiting @hq/store/s" if waits else "offered g")
        await world.put(visit("a", version=2, status="changed", store_id="t"))
        assert world.state("a") == ("waiting @hq/store/t" if waits else "offered far")

    room = 0 if waits else 1
    other = store("t", slots={"fit": 1}, slot_minutes=60)
    live(
        server, story, fitting(), other, guide("g", capacity=room), guide("far", capacity=room, store_id="t")
    )


def test_too_far_ahead_is_refused_by_name(server):
    async def story(world):
        await world.put(visit("a", BEGIN_MS + 13 * 24 * HOUR_MS))
        assert world.dead_letters() == ["unsupported"]
        [letter] = world.log["dead-letters"]
        assert b"ends_at_ms" in dict(letter.headers)["detail"]

    live(server, story, fitting(), guide("g"))


steps = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.integers(1, 4),
        st.sampled_from(("booked", "changed", "changed", "cancelled", "no_show")),
        st.integers(0, 3),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(steps, st.integers(1, 2))
def test_no_slot_is_ever_taken_more_often_than_there_is_room(server, told, room):
    """Whatever comes in whatever order, with repeats; and each visit holds all of its slots or none."""

    async def story(world):
        for name, version, status, hour in told:
            starts_ms = SOON_MS + hour * HOUR_MS
            await world.put(visit(name, starts_ms, 2, version=version, status=status, member_id=f"m{name}"))
            assert all(count <= room for count in (await taken(world)).values())
        held = Counter(
            member.decode().split("|")[4] for member in await world.redis.zrange(keys.slots("b/-"), 0, -1)
        )
        for name in "abcd":
            open_now = world.records(name) and world.records(name)[-1]["state"] not in {
                *("closed", "withdrawn", "lost"),
            }
            # a start that is no multiple of a slot overlaps one more
            assert held[name] in ({2, 3} if open_now else {0})

    live(server, story, fitting(slots=room), guide("g", capacity=9), policy("book_days_max = 3\n", 2))


def test_a_reservation_is_no_lead_of_the_same_name(server):
    async def story(world):
        await world.put(visit("a"), lead("a", member_id="n"))
        kinds = {orjson.loads(record.value)["kind"] for record in world.log["assignments"]}
        assert kinds == {"lead", "reservation"}

    live(server, story, fitting(), guide("g", capacity=9))


HERE, THERE = "b/here", "b/there"
TWO_MARKETS = (
    store(version=2, slots={"fit": 1}, slot_minutes=60, market="here"),
    store("t", slots={"fit": 1}, slot_minutes=60, market="there", lat=32.0),
    guide("g", capacity=9),
    guide("far", capacity=9, store_id="t"),
)


async def held_in(world, cell):
    """What a cell holds: open attempts, who waits, who has something due, slots by reservation."""
    names = (keys.open_attempts, keys.waiting, keys.due, keys.slots)
    held = [await world.redis.zrange(name(cell), 0, -1) for name in names]
    return [sorted(member.decode().split("|")[-2] for member in members) for members in held]


async def unlike_the_log(world):
    """What Redis holds of leads and slots otherwise than the log has it."""
    expected = Replay(reference=world.reference)
    expected.feed(ASSIGNMENTS, world.log[ASSIGNMENTS.name])
    expected.finish(world.arbiter.now)
    wrong = await differences(expected, world.arbiter.scripts, lambda *_: None)
    others = (keys.is_capacity, keys.is_of_money, lambda key: "}:inbox:" in key)
    return {key: fault for key, fault in wrong.items() if not any(other(key) for other in others)}


@pytest.mark.parametrize("ahead", [False, True])
def test_a_change_to_a_store_of_another_market_takes_slots_and_guide_there_and_frees_all_here(server, ahead):
    """Each slot is counted in the cell of its store, so that nobody else gets it there."""
    starts_ms = LATER_MS if ahead else SOON_MS

    async def story(world):
        await world.put(visit("a", starts_ms))
        await world.put(visit("a", starts_ms, version=2, status="changed", store_id="t"))
        assert await held_in(world, HERE) == [[], [], [], []]
        assert (await held_in(world, THERE))[3] == ["a", "a"]
        assert world.state("a") == ("waiting there/store/t/booked" if ahead else "offered far")
        assert await unlike_the_log(world) == {}
        assert (await world.load("g", HERE), await world.load("far", THERE)) == (0, int(not ahead))
        await world.put(visit("b", starts_ms, store_id="t", member_id="n"))
        assert reasons_of(world, "b") == ["slot_full"]
        await world.put(visit("c", starts_ms, member_id="o"))
        assert not world.state("c").startswith("closed")
        await world.put(visit("a", starts_ms, version=3, status="cancelled", store_id="t"))
        assert await held_in(world, THERE) == [[], [], [], []]
        assert world.dead_letters() == []

    live(server, story, *TWO_MARKETS)


def test_a_change_to_a_full_store_of_another_market_leaves_all_as_it_is(server):
    async def story(world):
        await world.put(visit("b", store_id="t", member_id="n"), visit("a"))
        before = [await held_in(world, cell) for cell in (HERE, THERE)]
        await world.put(visit("a", version=2, status="changed", store_id="t"))
        assert [await held_in(world, cell) for cell in (HERE, THERE)] == before
        assert (world.state("a"), world.dead_letters()) == ("offered g", ["slot_full"])

    live(server, story, *TWO_MARKETS)


def test_who_comes_too_late_for_the_last_slot_of_another_market_is_closed_and_told(server):
    """Between the look and the step somebody else may take it: the old visit is given up by then."""

    async def story(world):
        await world.put(visit("a"))
        leave = world.arbiter.leave

        async def too_late(*args):
            world.arbiter.leave = leave
            out = await leave(*args)
            await world.put(visit("b", store_id="t", member_id="n"))
            return out

        world.arbiter.leave = too_late
        await world.put(visit("a", version=2, status="changed", store_id="t"))
        assert (world.state("a"), world.dead_letters()) == ("closed g", [])
        assert reasons_of(world, "a")[-1] == "slot_full"
        assert await unlike_the_log(world) == {}
        assert await held_in(world, HERE) == [[], [], [], []]
        assert await held_in(world, THERE) == [["b"], [], ["b"], ["b", "b"]]

    live(server, story, *TWO_MARKETS)


@pytest.mark.parametrize("step", ["leave", "claim", "arrive"])
def test_a_change_of_market_that_is_cut_short_is_gone_on_with(server, step):
    """The worker dies after a step; the version comes again; the end is the same."""

    async def story(world):
        await world.put(visit("a"))
        real = getattr(world.arbiter, step)

        async def dies(*args):
            await real(*args)
            raise RuntimeError(step)

        setattr(world.arbiter, step, dies)
        unread = len(world.log["reservations"])
        with pytest.raises(RuntimeError, match=step):
            await world.put(visit("a", version=2, status="changed", store_id="t"))
        setattr(world.arbiter, step, real)
        world._read["reservations"] = unread
        await world.settle()
        assert world.story("a") == ["offered g", "returned g", "offered far"]
        assert await held_in(world, HERE) == [[], [], [], []]
        assert await held_in(world, THERE) == [["a"], [], ["a"], ["a", "a"]]

    live(server, story, *TWO_MARKETS)


def test_a_reservation_may_come_back_to_the_market_that_it_has_left(server):
    async def story(world):
        await world.put(visit("a"))
        await world.put(visit("a", version=2, status="changed", store_id="t"))
        assert world.state("a") == "offered far"
        await world.put(visit("a", version=3, status="changed"))
        assert world.state("a") == "offered g"
        assert await held_in(world, HERE) == [["a"], [], ["a"], ["a", "a"]]
        assert await held_in(world, THERE) == [[], [], [], []]
        assert await world.say("accepted", "a", guide_id="g", kind="reservation") is None
        assert world.state("a") == "accepted g"
        assert await unlike_the_log(world) == {}
        await world.redis.flushall()
        await world.restore()
        assert await unlike_the_log(world) == {}

    live(server, story, *TWO_MARKETS)


def test_a_late_claim_where_a_reservation_was_before_makes_it_no_second_time(server):
    """A worker read its cell before it moved: what has stayed there refuses, and the next look is right."""

    async def story(world):
        await world.put(visit("a"))
        await world.put(visit("a", version=2, status="changed", store_id="t"))
        [offer] = [call for call in claims if call.cell == HERE]
        [answer] = await world.arbiter.claim([offer])
        assert answer.result == "stale"
        assert await held_in(world, HERE) == [[], [], [], []]
        left = keys.lead(HERE, "reservation", "a")
        assert await world.redis.hgetall(left) == {b"q": b"1", b"to": THERE.encode()}
        assert await world.redis.pttl(left) > REMEMBER_MS - 60_000
        await world.redis.set(keys.lead_cell("b", "reservation", "a"), HERE)  # so does a call that comes late
        with pytest.raises(OutageError, match="moved"):
            await world.put(visit("a", version=3, status="cancelled", store_id="t"))
        world._read["reservations"] -= 1
        await world.settle()
        assert (world.state("a"), await held_in(world, THERE)) == ("withdrawn far", [[], [], [], []])

    claims = []

    async def noted(world):
        claim = world.arbiter.claim

        async def note(offers):
            claims.extend(offers)
            return await claim(offers)

        world.arbiter.claim = note
        await story(world)

    live(server, noted, *TWO_MARKETS)


async def change_cut_short(world, step, meanwhile=None):
    """Change a visit to the other market; the worker dies before a step of it is taken."""
    real = getattr(world.arbiter, step)

    async def dies(*_):
        setattr(world.arbiter, step, real)
        raise OutageError(step)

    setattr(world.arbiter, step, dies)
    unread = len(world.log["reservations"])
    with pytest.raises(OutageError, match=step):
        await world.put(visit("a", version=2, status="changed", store_id="t"))
    if meanwhile is not None:
        await meanwhile()
    world._read["reservations"] = unread


def test_who_has_left_for_another_market_goes_on_though_its_slot_there_is_taken_meanwhile(server):
    """What it had is given up by then: it is closed and told, and every response finds it so."""

    async def story(world):
        await world.put(visit("a"))
        await change_cut_short(world, "claim", lambda: world.put(visit("b", store_id="t", member_id="n")))
        await world.settle()
        assert (world.state("a"), world.dead_letters()) == ("closed g", [])
        assert reasons_of(world, "a")[-1] == "slot_full"
        await world.say("accepted", "a", guide_id="g", kind="reservation")
        assert world.state("a") == "closed g"
        assert await unlike_the_log(world) == {}

    live(server, story, *TWO_MARKETS)


def test_a_close_in_another_market_that_the_broker_did_not_get_is_told_by_the_next_look(server):
    async def story(world):
        await world.put(visit("a"))
        leave, unread = world.arbiter.leave, len(world.log["reservations"])

        async def too_late(*args):
            world.arbiter.leave = leave
            out = await leave(*args)
            await world.put(visit("b", store_id="t", member_id="n"))
            world.down = True
            return out

        world.arbiter.leave = too_late
        with pytest.raises(OutageError, match="broker"):
            await world.put(visit("a", version=2, status="changed", store_id="t"))
        world.down = False
        world._read["reservations"] = unread
        await world.settle()
        assert (world.state("a"), world.dead_letters()) == ("closed g", [])

    live(server, story, *TWO_MARKETS)


def test_who_is_on_the_way_arrives_though_its_store_is_in_yet_another_market_by_then(server):
    async def story(world):
        async def edited():
            await world.put(store("t", version=5, slots={"fit": 1}, slot_minutes=60, market="yonder"))

        await world.put(visit("a"))
        await change_cut_short(world, "claim", edited)
        await world.settle()
        assert (world.records("a")[-1]["cause"]["kind"], world.dead_letters()) == ("reservation/2", [])
        assert await held_in(world, HERE) == [[], [], [], []]
        assert await world.arbiter.recall([("b", "m", "reservation", "a")])
        await world.put(visit("a", version=3, status="changed", store_id="t"))
        assert (world.state("a"), await held_in(world, THERE)) == ("offered far", [[], [], [], []])

    live(server, story, *TWO_MARKETS)


def test_a_response_to_a_visit_on_its_way_to_another_market_is_followed_when_it_is_there(server):
    async def story(world):
        said = []

        async def accepted():
            said.append(await world.say("accepted", "a", guide_id="g", kind="reservation"))
            assert (world.state("a"), world.log["dead-letters"]) == ("offered g", [])

        await world.put(visit("a"))
        await change_cut_short(world, "claim", accepted)
        await world.settle()
        await world.wait(3)
        assert (said, world.state("a")) == ([None], "offered far")
        assert await world.redis.zrange(keys.parked("b"), 0, -1) == []

    live(server, story, *TWO_MARKETS)


def test_a_visit_that_is_put_off_again_and_again_is_remembered_until_it_is_over(server):
    """Each version may be ``book_days_max`` ahead of when it was said, however long ago the first one was."""

    async def story(world):
        day_ms = 24 * HOUR_MS
        await world.put(visit("a", BEGIN_MS + 10 * day_ms))
        held = (keys.lead("b/-", "reservation", "a"), keys.lead_cell("b", "reservation", "a"))
        for key in held:  # eight days later
            await world.redis.pexpire(key, REMEMBER_MS - 8 * day_ms)
        world.arbiter.now += 8 * day_ms
        times = {"occurred_at_ms": world.arbiter.now, "version": 2, "status": "changed"}
        await world.put(visit("a", BEGIN_MS + 19 * day_ms, **times))
        assert (len(world.story("a")), world.dead_letters()) == (2, [])
        assert all([await world.redis.pttl(key) > REMEMBER_MS - 60_000 for key in held])

    live(server, story, fitting(), guide("g"))


def answer(action, guide_id, world):
    fields = {"brand": "b", "member_id": "m", "kind": "reservation", "guide_id": guide_id}
    return Response(
        response_id=action, lead_id="a", action=action, occurred_at_ms=world.arbiter.now, **fields
    )


def test_what_is_taken_on_right_after_a_change_lasts_until_the_new_visit_is_over(server):
    """The change is decided, but not projected yet: what its response means hangs on it."""

    async def story(world):
        await world.put(visit("a"))
        later_ms = SOON_MS + 6 * HOUR_MS
        await world.put(visit("a", later_ms, version=2, status="changed"), answer("accepted", "g", world))
        await world.wait(3)
        assert world.state("a") == "accepted g"
        assert world.records("a")[-1]["respond_by_ms"] == later_ms + HOUR_MS
        await world.put(visit("a", later_ms, version=3, status="arrived"))  # tells no times of its own
        await world.put(answer("won", "g", world))
        assert world.state("a") == "won g"

    live(server, story, fitting(), guide("g"))


def test_who_declines_right_after_a_change_to_another_store_leaves_it_to_that_store(server):
    async def story(world):
        await world.put(visit("a"))
        change = visit("a", version=2, status="changed", store_id="t")
        await world.put(change, answer("declined", "far", world))
        await world.wait(3)
        assert world.state("a") == "waiting @hq/store/t"

    other = store("t", slots={"fit": 1}, slot_minutes=60)
    live(server, story, fitting(), other, guide("g"), guide("g2"), guide("far", store_id="t"))


def test_a_hold_ends_at_the_latest_when_the_visit_does(server):
    async def story(world):
        await world.put(visit("a", hold_until_ms=BEGIN_MS + 300 * 24 * HOUR_MS))
        assert world.records("a")[-1]["respond_by_ms"] == SOON_MS + HOUR_MS
        world.arbiter.now = SOON_MS + HOUR_MS
        await world.tick()
        assert world.state("a").startswith("closed")
        assert await taken(world) == {}

    live(server, story, fitting(), guide("g"))


def test_who_comes_without_having_booked_is_served_though_every_slot_is_taken(server):
    """The visitor stands there: whether there is a slot is asked no more, and none is taken."""

    async def story(world):
        await world.put(visit("b", member_id="n"))
        before = await taken(world)
        await world.put(visit("a", version=3, status="arrived"))
        assert (world.state("a"), await taken(world)) == ("offered g", before)
        assert await unlike_the_log(world) == {}

    live(server, story, fitting(), guide("g", capacity=9))


def test_a_wish_that_changes_nothing_is_told_to_whoever_sent_it(server):
    """Behind a later version, and when the visit was closed or cancelled; a cancellation wants nothing."""

    async def story(world):
        await world.put(visit("b", member_id="n"), visit("a"))
        assert reasons_of(world, "a") == ["slot_full"]
        await world.put(visit("a", SOON_MS + 30 * HOUR_MS, version=3, status="changed"))
        assert (len(world.records("a")), world.dead_letters()) == (1, ["late"])
        cancelled = visit("b", version=2, status="cancelled", member_id="n")
        await world.put(
            cancelled, visit("b", version=3, member_id="n"), visit("a", version=4, status="cancelled")
        )
        assert (world.state("b"), world.dead_letters()) == ("withdrawn g", ["late", "late"])
        await world.put(cancelled, visit("b", member_id="n"))
        assert world.dead_letters() == ["late", "late"]
        await world.say("accepted", "b", kind="reservation", guide_id="g")
        assert world.dead_letters() == ["late", "late"]

    live(server, story, fitting(), guide("g", capacity=9))


def test_who_waits_and_is_put_off_waits_among_those_who_booked_ahead(server):
    """At the head of the queue of who is served now nobody would pass, for days; and the other way round."""

    async def story(world):
        await world.put(visit("a"))
        assert world.state("a") == "waiting @hq/store/s"
        await world.put(visit("a", LATER_MS, version=2, status="changed"))
        assert world.state("a") == "waiting @hq/store/s/booked"
        await world.put(guide("h", capacity=1), lead("n", member_id="n", store_id="s"))
        assert world.state("n") == "offered h"
        await world.put(visit("a", version=3, status="changed"))
        assert world.state("a") == "waiting @hq/store/s"
        assert await held_in(world, "b/-") == [["n"], ["a"], ["a", "n"], ["a", "a"]]
        assert await unlike_the_log(world) == {}

    live(server, story, fitting(), guide("g", capacity=0))


@pytest.mark.parametrize("script", ["arrive", "fix_cells"])
def test_a_cut_while_the_old_cell_is_cleared_leaves_nothing_there_when_the_version_comes_again(
    server, script
):
    async def story(world):
        await world.put(visit("a"))
        run, unread, ran = world.arbiter.scripts.run, len(world.log["reservations"]), []

        async def dies(calls):
            ran.extend(call.script for call in calls)
            if calls and calls[0].script == script and "claim" in ran:
                world.arbiter.scripts.run = run
                raise OutageError(script)
            return await run(calls)

        world.arbiter.scripts.run = dies
        with pytest.raises(OutageError, match=script):
            await world.put(visit("a", version=2, status="changed", store_id="t"))
        world._read["reservations"] = unread
        if script == "fix_cells":  # who looks finds where it is, and looks again
            with pytest.raises(OutageError, match="moved"):
                await world.settle()
            world._read["reservations"] = unread
        await world.settle()
        assert (world.state("a"), await held_in(world, HERE)) == ("offered far", [[], [], [], []])
        assert await unlike_the_log(world) == {}

    live(server, story, *TWO_MARKETS)

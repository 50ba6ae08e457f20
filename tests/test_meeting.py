"""Leads that meet another one, leads of those who are no customers, and the open pool."""

from __future__ import annotations

import pytest

from router.errors import OutageError
from router.local import EmbeddedRedis
from tests.lifecycle_world import BEGIN_MS, Record, booked, guide, lead, live, policy, store
from topics.catalog import LEADS
from topics.codec import encode
from topics.fields import Source
from topics.members import Member


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


SUITS = {"needs": ("suits",)}
TAILOR = guide("g", capacity=9, skills={"suits": 3, "hats": 3})


def test_a_second_lead_for_the_same_is_merged_into_the_open_one(server):
    async def story(world):
        await world.put(lead("one", **SUITS), lead("two", **SUITS))
        assert world.story("one") == ["offered g"]
        [merged] = world.records("two")
        assert (merged["state"], merged["reason"], merged["merged_into"]) == ("closed", "merged", "one")
        await world.put(lead("one", **SUITS))
        assert (world.story("one"), await world.load("g")) == (["offered g"], 1)
        for number in (1, 2):
            name = ("one", "two")[number - 1]
            assert await world.redis.exists(f"lr:{{b/m{_shard('m')}}}:journey:lead:{name}")

    live(server, story, TAILOR)


def test_a_reservation_of_the_same_id_is_not_taken_for_the_lead_that_stands_for_a_wish(server):
    async def story(world):
        await world.put(booked("one"), lead("one", **SUITS))
        await world.say("won", "one", guide_id="g")
        await world.put(lead("two", **SUITS))
        assert world.state("two") == "offered g"

    live(server, story, TAILOR)


def as_record(event):
    return Record("leads", 0, 0, b"m", encode(event), (), BEGIN_MS)


def while_it_looks(world, step, other):
    """Let another worker route a lead while this one has just begun a step, once."""
    real = getattr(world.arbiter, step)

    async def late(*args, **more):
        setattr(world.arbiter, step, real)
        await other()
        return await real(*args, **more)

    setattr(world.arbiter, step, late)


def test_of_two_who_take_the_place_of_a_closed_lead_at_once_one_is_merged(server):
    async def story(world):
        async def forgets_later(_):
            pass

        world.arbiter.part = forgets_later
        await world.put(lead("one", **SUITS))
        await world.say("won", "one", guide_id="g")

        async def another_worker():
            await world.flow.route(LEADS, [as_record(lead("three", **SUITS))])

        while_it_looks(world, "recall", another_worker)
        await world.put(lead("two", **SUITS))
        assert (world.state("three"), world.state("two").split()[0]) == ("offered g", "closed")
        assert world.records("two")[0]["merged_into"] == "three"

    live(server, story, TAILOR)


def test_who_meets_a_lead_that_another_worker_is_just_placing_looks_again(server):
    """It is not open yet, and will be: to take its place would make two of one wish."""

    async def story(world):
        async def another_worker():
            with pytest.raises(OutageError, match="on its way"):
                await world.flow.route(LEADS, [as_record(lead("two", **SUITS))])

        while_it_looks(world, "fix_cells", another_worker)
        await world.put(lead("one", **SUITS))
        await world.put(lead("two", **SUITS))
        assert (world.state("one"), world.records("two")[0].get("merged_into")) == ("offered g", "one")

    live(server, story, TAILOR)


def test_a_lead_that_never_came_to_be_keeps_nobody_waiting_for_long(server, monkeypatch):
    """It may have been set aside for a bug of its own."""
    monkeypatch.setattr("router.merging.ON_ITS_WAY_MS", 0)

    async def story(world):
        async def dies():
            raise RuntimeError

        while_it_looks(world, "fix_cells", dies)
        with pytest.raises(RuntimeError):
            await world.put(lead("one", **SUITS))
        await world.put(lead("two", **SUITS))
        assert world.state("two") == "offered g"

    live(server, story, TAILOR)


def _shard(member_id):
    from router.state.keys import shard  # noqa: PLC0415 - used here alone

    return shard(member_id)


@pytest.mark.parametrize(
    "other", [{"needs": ("hats",)}, {"member_id": "n", **SUITS}, {"needs": ("suits",), "store_id": "s"}, {}]
)
def test_another_wish_or_another_member_is_routed(server, other):
    async def story(world):
        await world.put(lead("one", **SUITS), lead("two", **other))
        assert world.state("two") == "offered g"

    live(server, story, TAILOR)


def test_a_repeat_of_what_is_closed_is_met_by_nobody_in_its_batch(server):
    """The repeat changes nothing, so the new lead is routed."""

    async def story(world):
        await world.put(lead("one", **SUITS))
        world.arbiter.part = _nobody_parts  # the worker dies before it has told that the lead is closed
        await world.say("won", "one", guide_id="g")
        await world.put(lead("one", **SUITS), lead("two", **SUITS))
        assert world.state("two") == "offered g"

    live(server, story, TAILOR)


async def _nobody_parts(_leads):
    pass


@pytest.mark.parametrize("ends", ["withdrawn", "won"])
def test_what_is_closed_is_no_longer_met(server, ends):
    async def story(world):
        await world.put(lead("one", **SUITS))
        await world.say(ends, "one", guide_id="g")
        await world.put(lead("two", **SUITS))
        assert world.state("two") == "offered g"

    live(server, story, TAILOR)


def test_where_the_policy_says_so_nothing_is_merged(server):
    async def story(world):
        await world.put(policy("merge_window_s = 0\n", 2))
        await world.put(lead("one", **SUITS), lead("two", **SUITS))
        assert world.state("two") == "offered g"

    live(server, story, TAILOR)


MARKS = {
    "staff": (Member(member_id="m", brand="b", version=1, flags=("staff",)), {}),
    "competitor": (Member(member_id="m", brand="b", version=1, flags=("competitor",)), {}),
    "self_dealing": (Member(member_id="m", brand="b", version=1), {"source": Source(sharer_id="m")}),
}


@pytest.mark.parametrize(
    ("effect", "state"), [("route", "offered g"), ("hq", "waiting @hq/hq"), ("close", "closed @hq/hq")]
)
@pytest.mark.parametrize("mark", MARKS)
def test_who_is_no_customer_is_marked_with_the_effect_of_the_policy(server, mark, effect, state):
    async def story(world):
        member, fields = MARKS[mark]
        await world.put(policy(version=2, toml=f'[marks]\n{mark} = "{effect}"\n'), member)
        await world.put(lead(**fields))
        assert world.records()[0]["marks"] == [mark]
        assert world.state().split()[0] == state.split()[0]

    live(server, story, guide("g"))


def test_who_is_kept_for_headquarters_is_offered_to_headquarters_alone(server):
    """In the market of headquarters, at the next look as well, and to nobody who would grab it."""

    async def story(world):
        competitor, _ = MARKS["competitor"]
        await world.put(competitor, lead("one"))
        await world.wait(6)
        assert world.state("one").split()[0] == "waiting"
        assert await world.say("grabbed", "one", guide_id="g") == "full"
        await world.put(store("h", kind="hq", market="far"), guide("team", store_id="h"))
        await world.put(lead("two"))
        await world.wait(6)
        assert (world.state("one").split()[0], world.state("two")) == ("waiting", "offered team")

    live(server, story, guide("g", capacity=9))


def test_a_guide_who_asks_as_a_member_is_staff(server):
    async def story(world):
        await world.put(lead(member_id="g"))
        assert world.records()[0]["marks"] == ["staff"]

    live(server, story, guide("g"))


# --- the open pool -----------------------------------------------------------------------------------------


def test_a_guide_takes_a_lead_out_of_the_pool_whoever_else_is_near(server):
    """Offered and accepted in one step; only one of two who reach for it gets it."""

    async def story(world):
        await world.put(lead())
        assert world.state().split()[0] == "waiting"
        await world.put(*(guide(name, version=2, capacity=1) for name in "gh"))
        said = [await world.say("grabbed", guide_id=name) for name in "hg"]
        assert said[0] == "applied"
        assert said[1] in {"illegal", "late", "not_yours"}
        assert [each.split()[0] for each in world.story()[1:]] == ["offered", "accepted"]
        assert world.state() == "accepted h"

    live(server, story, *(guide(name, capacity=0) for name in "gh"))


@pytest.mark.parametrize(
    "taker",
    [
        guide("h", version=2, capacity=0),
        guide("h", version=2, price_zones=("special",)),
        guide("h", version=2, store_id="t"),
        guide("h", version=2, active=False),
    ],
    ids=["no room", "another price zone", "another store", "gone"],
)
def test_nobody_takes_what_they_may_not_have(server, taker):
    async def story(world):
        await world.put(lead(store_id="s", price_zone="full"))
        await world.put(taker)
        assert await world.say("grabbed", guide_id="h") == "full"
        assert world.state().split()[0] == "waiting"

    live(server, story, store("t"), guide("h", capacity=0))


def test_a_lead_waits_for_its_store_to_open_where_the_policy_says_so(server):
    """At 21:33 in Shanghai one store is closed and the next one open."""
    closed = {"hours": dict.fromkeys(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), "09:00-10:00")}

    async def story(world):
        await world.put(lead("one", store_id="s"))
        assert world.state("one") == "offered h"
        await world.put(policy("queue_until_open = true\n", 2))
        await world.put(lead("two", store_id="s", member_id="n"))
        assert world.state("two") == "waiting @hq/store/s"

    people = (guide("g", capacity=9), guide("h", capacity=9, store_id="t"))
    live(server, story, store(version=2, timezone="Asia/Shanghai", **closed), store("t"), *people)


def test_who_waits_goes_in_the_order_in_which_they_came(server):
    """Also within their first seconds, whoever suits better."""

    async def story(world):
        await world.put(lead("old", occurred_at_ms=BEGIN_MS - 2_000, member_id="n", lat=31.2))
        await world.put(lead("young", occurred_at_ms=BEGIN_MS - 1_000))
        await world.put(guide("g", version=2, capacity=1))
        await world.wait(1)
        assert (world.state("old"), world.state("young").split()[0]) == ("offered g", "waiting")

    live(server, story, guide("g", capacity=0))

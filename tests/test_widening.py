"""A lead that waits in vain looks further afield: another market, then headquarters, one cell at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.local import EmbeddedRedis
from router.rules.widening import further, spot, survey
from router.state import keys
from tests.lifecycle_world import TOML, guide, lead, live, policy, store

LADDER = TOML.replace('"near", "hq"', '"near", "region", "hq"').replace("near = 30", "near = 30\nregion = 30")
HERE, THERE, TEAM = "b/here", "b/there", "b/-"
STORES = (
    store("s", version=2, market="here", region="east"),
    store("t", market="there", region="east", lat=32.0),
    store("u", market="elsewhere", region="west", lat=31.1),
    store("hq", kind="hq", lat=40.0),
)


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


async def places(world, lead_id="l"):
    """The cells in which a lead waits or is held."""
    found = []
    for cell in (HERE, THERE, "b/elsewhere", TEAM):
        for key in (keys.waiting(cell), keys.open_attempts(cell)):
            members = await world.redis.zrange(key, 0, -1)
            found += [cell for member in members if f"|lead|{lead_id}|" in member.decode()]
    return found


def test_the_next_market_of_the_region_then_headquarters(server):
    """Each step a record with its rung; at no moment in two cells; who declined is not asked again."""

    async def story(world):
        await world.put(policy(version=2, toml=LADDER))
        await world.put(lead())
        for _ in range(140):
            await world.wait(1)
            assert len(await places(world)) <= 1
            if world.state() == "offered far":
                await world.say("declined", guide_id="far")
        told = [(each["state"], each.get("rung")) for each in world.records() if each.get("rung")]
        assert told == [
            *[("waiting", "near"), ("offered", "region"), ("waiting", "region"), ("offered", "hq")],
            *[("waiting", "hq"), ("closed", "hq")],
        ]
        assert [each["guide_id"] for each in world.records() if each["state"] == "offered"] == ["far", "team"]
        assert await places(world) == []

    people = (guide("far", store_id="t"), guide("team", store_id="hq"), guide("other", store_id="u"))
    live(server, story, *STORES, *people)


@pytest.mark.parametrize("step", ["leave", "claim", "arrive"])
def test_a_move_that_is_cut_short_is_gone_on_with(server, step):
    """The worker dies after a step; the response comes again; the end is the same."""

    async def story(world):
        await world.put(policy(version=2, toml=LADDER))
        await world.put(lead())
        await world.wait(29)
        real = getattr(world.arbiter, step)
        died = []

        async def dies_once(*args):
            out = await real(*args)
            if not died:
                died.append(step)
                raise RuntimeError(step)
            return out

        setattr(world.arbiter, step, dies_once)
        unread = len(world.log["responses"])
        with pytest.raises(RuntimeError, match=step):
            await world.wait(3)
        world._read["responses"] = unread
        await world.settle()
        assert died
        assert world.state() == "offered far"
        assert await places(world) == [THERE]

    live(server, story, *STORES, guide("far", store_id="t"))


def test_a_late_claim_where_a_lead_was_before_makes_it_no_second_time(server):
    async def story(world):
        claims, claim = [], world.arbiter.claim

        async def note(offers):
            claims.extend(offers)
            return await claim(offers)

        world.arbiter.claim = note
        await world.put(policy(version=2, toml=LADDER))
        await world.put(lead())
        await world.wait(31)
        assert await places(world) == [THERE]
        [answer] = await claim(claims[:1])
        assert (claims[0].cell, answer.result) == (HERE, "stale")
        assert await places(world) == [THERE]

    live(server, story, *STORES, guide("far", store_id="t"))


def test_without_another_market_straight_to_headquarters_and_without_them_to_the_end(server):
    async def story(world):
        await world.put(policy(version=2, toml=LADDER))
        await world.put(lead())
        await world.wait(31)
        assert world.state() == "waiting here/hq"
        await world.wait(41)
        assert world.state().split()[0] == "closed"

    live(server, story, STORES[0], STORES[2])


maps = st.lists(
    st.builds(
        lambda number, lat, region, kind, cell: (
            store(f"s{number}", lat=lat, region=region, kind=kind),
            f"b/{cell}",
        ),
        st.integers(0, 9),
        st.floats(30, 32),
        st.sampled_from((None, "east", "west")),
        st.sampled_from(("franchise", "outlet", "hq")),
        st.sampled_from("xyz"),
    ),
    max_size=8,
    unique_by=lambda each: each[0].store_id,
)


@given(maps, st.randoms(), st.sampled_from("xyz"))
def test_where_a_lead_goes_hangs_on_no_order_and_is_another_market(stores, random, cell):
    event = lead()
    rung, to = further(event, f"b/{cell}", "region", survey(stores))
    shuffled = random.sample(stores, len(stores))
    assert further(event, f"b/{cell}", "region", survey(shuffled)) == (rung, to)
    if rung == "region":
        assert to != f"b/{cell}"
        assert spot(event, to, rung, survey(stores)) is not None

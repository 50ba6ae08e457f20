"""What becomes of a lead: the whole table of states and actions, then its promises as stories on Valkey."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import OutageError
from router.local import EmbeddedRedis
from router.projector import Projector
from router.rules.lifecycle import ACTIONS, BOOKINGS, OFFERS_AGAIN, TABLE, Limits, moves
from router.rules.offers import MOMENTS, made
from router.rules.ownership import Contract, fact_of, follow
from router.rules.responding import EARLY_MAX_MS, Outcome, next_rung, rung_now
from router.timers import WAITERS_MAX
from scoring.build import compact
from scoring.policy import Policy
from tests.lifecycle_world import BEGIN_MS, TOML, booked, guide, lead, live, policy, presence, store
from topics.assignments import FINAL_STATES, LIVE_STATES, Rung, State
from topics.bindings import Binding
from topics.catalog import ASSIGNMENTS, GUIDES, POLICIES, PRESENCE, RESPONSES, STORES
from topics.codec import encode

STATES = get_args(State)


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


# --- the table ---------------------------------------------------------------------------------------------


def test_the_table_holds_every_state_and_no_action_that_there_is_not():
    assert sorted(TABLE) == sorted(STATES)
    assert {action for nexts in TABLE.values() for action in nexts} <= set(ACTIONS)
    for nexts in TABLE.values():
        for following in nexts.values():
            assert {following.state, following.then} <= {*STATES, ""}


@pytest.mark.parametrize("state", FINAL_STATES)
def test_a_final_state_names_nothing(state):
    assert TABLE[state] == {}


@pytest.mark.parametrize("state", [state for state in STATES if state not in FINAL_STATES])
def test_every_other_state_ends_by_itself_whatever_nobody_does(state):
    """Following what expires leads to a final state, or to the next offer."""
    seen = []
    while state not in FINAL_STATES:
        assert state not in seen
        seen.append(state)
        following = TABLE[state]["expired"]
        if following.again:
            break
        state = following.state
    else:
        assert seen


@pytest.mark.parametrize("state", [state for state in STATES if state not in FINAL_STATES])
def test_a_lead_whose_time_is_over_is_closed_by_what_expires(state):
    text = moves("expired", 5, Policy(), Limits(0), over=True)
    assert f"{state}>closed:0" in text.split()


def test_who_holds_a_lead_gives_it_back_before_it_is_offered_again():
    """Only a moment is between: nobody holds it, and it is nobody's for no longer than that."""
    for state, nexts in TABLE.items():
        for following in nexts.values():
            if following.again and state in LIVE_STATES:
                assert following.state in MOMENTS
            if following.then:
                assert state == "waiting"
                assert following.then in LIVE_STATES


@pytest.mark.parametrize("state", LIVE_STATES)
def test_a_guide_may_decline_at_any_time_and_the_member_may_withdraw(state):
    assert TABLE[state]["declined"].again
    assert TABLE[state]["returned"].again
    assert TABLE[state]["withdrawn"].state == "withdrawn"


def test_what_offers_again_is_known_by_the_action_alone():
    known = {"declined", "expired", "returned", "drain", "grabbed"}
    assert known | {"rebooked", "moved", "arrived"} == OFFERS_AGAIN


@given(st.sampled_from(ACTIONS), st.integers(0, 10**13), st.integers(-(10**9), 10**9), st.booleans())
def test_no_limit_goes_beyond_the_life_of_the_lead(action, now_ms, left_ms, over):
    for each in moves(action, now_ms, Policy(), Limits(now_ms + left_ms), over=over).split():
        by = each.rpartition(":")[2]
        if by not in {"!", "k", "w", "0"}:
            assert now_ms <= int(by) <= max(now_ms, now_ms + left_ms)


@given(st.lists(st.sampled_from(get_args(Rung)), min_size=1, max_size=5, unique=True))
def test_the_ladder_is_climbed_to_its_end_each_rung_once(ladder):
    policy, rung, seen = Policy(ladder=tuple(ladder)), "near", []
    while (rung := next_rung(rung, policy)) is not None:
        seen.append(rung)
        assert len(seen) <= len(ladder)
    places = [rung for rung in ladder if rung not in {"owner", "store"}]
    assert seen == (places[places.index("near") + 1 :] if "near" in places else places)


def test_a_lead_looks_as_far_as_the_last_time_it_waited():
    def waited(rung):
        return made(f"waiting 0 1 2 0 3 0 lead|l - q|3|5|{rung}")

    offered = made("offered 1 1 2 0 3 0 lead|l - g|1|s|0.5000|owner")
    assert rung_now([offered]) == "near"
    assert rung_now([waited("near"), waited("hq"), offered]) == "hq"


# --- every state and every action, against the real script -------------------------------------------------

#: How a lead of one guide comes into each state.
WAYS = {
    "waiting": None,
    "offered": (),
    "delivered": ("delivered",),
    "seen": ("seen",),
    "accepted": ("accepted",),
    "contacted": ("contacted",),
    "visited": ("visited",),
    "won": ("accepted", "won"),
    "lost": ("lost",),
    "withdrawn": ("withdrawn",),
}


@pytest.mark.parametrize(
    ("state", "action"),
    list(product(WAYS, [each for each in ACTIONS if each not in BOOKINGS])),
    ids=lambda word: word,
)
def test_every_action_in_every_state_does_what_the_table_says(server, state, action):
    """A step where it names one, else nothing: late behind a final state, illegal before."""

    async def story(world):
        await world.put(lead())
        for each in WAYS[state] or ():
            assert await world.say(each, guide_id="g") == "applied"
        assert world.state().split()[0] == state
        before = world.story()
        if action == "expired":
            world.arbiter.now += 100_000
        asks = None if state == "waiting" and action != "grabbed" else "g"
        outcome = await world.say(action, guide_id=asks)
        after = world.story()[len(before) :]
        following = TABLE[state].get(action)
        if following is None:
            assert after == []
            assert outcome in {None, "late" if state in FINAL_STATES else "illegal"}
        else:
            assert outcome in {None, "applied", "full"}
            states = [each.split()[0] for each in after]
            assert states[:1] == ([following.state] if following.state else states[:1])
            assert len(states) == (bool(following.state) + (following.again and state != "waiting")) or (
                state == "waiting" and action == "expired" and states == ["waiting"]
            )
        held = world.state().split()[0] in LIVE_STATES
        assert await world.load("g") == held
        assert await world.inbox("g") == ["l"] * held

    live(server, story, guide("g", capacity=int(state != "waiting")))


# --- stories -----------------------------------------------------------------------------------------------


def test_an_offer_that_nobody_answers_comes_to_the_next_guide(server):
    async def story(world):
        await world.put(lead())
        first = world.state().split()[1]
        await world.wait(9)
        assert world.state() == f"offered {first}"
        await world.wait(1)
        [other] = {"g", "h"} - {first}
        assert world.story() == [f"offered {first}", f"expired {first}", f"offered {other}"]
        assert (await world.inbox(first), await world.inbox(other)) == ([], ["l"])
        assert (await world.load(first), await world.load(other)) == (0, 1)

    live(server, story, guide("g"), guide("h"))


def test_the_owner_and_then_the_store_are_asked_first_each_for_a_bounded_time(server):
    """Shorter than others have; each widening is a record with its rung."""
    toml = TOML.replace("[ladder_s]", "[ladder_s]\nowner = 2\nstore = 4").replace("share = 1", "share = 0.5")

    async def story(world):
        await world.put(policy(version=2, toml=toml))
        bind = {"member_id": "m", "brand": "b", "occurred_at_ms": BEGIN_MS - 1, "kind": "bind"}
        bound = follow(Contract(), [fact_of(Binding(command_id="c", guide_id="o", **bind))])
        assert await world.arbiter.members.write([(("b", "m"), b"", bound)]) == [True]
        await world.put(lead(store_id="s"))
        await world.wait(16)
        offers = [each for each in world.records() if each["state"] == "offered" and "rung" in each]
        told = [
            (each["rung"], each["guide_id"], each["respond_by_ms"] - each["at_ms"], each["remind_at_ms"])
            for each in offers
        ]
        at_ms = [each["at_ms"] for each in offers]
        assert told == [
            ("owner", "o", 2_000, at_ms[0] + 1_000),
            ("store", "g", 4_000, at_ms[1] + 2_000),
            ("near", "h", 10_000, at_ms[2] + 5_000),
        ]

    people = (guide("o", store_id="t"), guide("g"), guide("h", store_id="t"))
    live(server, story, store("t", lat=31.001), *people)


def test_a_guide_is_reminded_once_before_the_offer_ends(server):
    async def story(world):
        await world.put(policy(version=2, toml=TOML.replace("remind_share = 1", "remind_share = 0.5")))
        await world.put(lead())
        await world.wait(4)
        assert len(world.records()) == 1
        await world.wait(1)
        assert world.story() == ["offered g", "offered g"]
        assert world.records()[1]["respond_by_ms"] == world.records()[0]["respond_by_ms"]
        await world.wait(4)
        assert len(world.records()) == 2
        await world.wait(1)
        assert world.story()[2] == "expired g"

    live(server, story, guide("g"))


def test_a_decline_moves_on_and_never_comes_back(server):
    async def story(world):
        await world.put(lead())
        first = world.state().split()[1]
        assert await world.say("declined", guide_id=first) == "applied"
        [other] = {"g", "h"} - {first}
        assert world.story() == [f"offered {first}", f"declined {first}", f"offered {other}"]
        await world.say("declined", guide_id=other)
        assert world.state() == "waiting -" or world.state().startswith("waiting")
        await world.wait(20)
        assert world.state().startswith("waiting")

    live(server, story, guide("g", capacity=5), guide("h", capacity=5))


def test_a_guide_who_accepts_while_the_end_of_the_offer_is_on_its_way_keeps_the_lead(server):
    """The attempt is the same: only the time tells that what was over is not over any more."""

    async def story(world):
        await world.put(lead())
        world.arbiter.now += 10_000
        await world.timers.tick()  # published, not read yet
        responses = world.log[RESPONSES.name]
        assert len(world.published("expired")) == 1
        expired = responses.pop()
        world._append(RESPONSES.name, *_accepted())
        responses.append(expired._replace(offset=len(responses)))
        await world.settle()
        assert world.story() == ["offered g", "accepted g"]
        assert await world.redis.zcard("lr:{b/-}:due") == 1
        await world.wait(59)
        assert world.state() == "accepted g"
        await world.wait(1)
        assert world.story()[2] == "returned g"

    live(server, story, guide("g"))


def _accepted():
    value = b'{"response_id":"a","lead_id":"l","member_id":"m","brand":"b","occurred_at_ms":1790000000000,'
    return b"m", value + b'"action":"accepted","guide_id":"g","attempt":1}'


def test_f07_a_due_time_that_is_published_twice_has_one_effect(server):
    """By two workers, or by one that died before it was forgotten: the same id, and the same answer to it."""

    async def story(world):
        await world.put(lead())
        world.arbiter.now += 10_000
        forget, world.arbiter.forget_due = world.arbiter.forget_due, _dies
        with pytest.raises(OutageError):
            await world.timers.tick()
        world.arbiter.forget_due = forget
        await world.another_workers_timers().tick()
        [one, other] = world.published("expired")
        assert one == other
        await world.settle()
        assert [each.split()[0] for each in world.story()] == ["offered", "expired", "offered"]
        await world.tick()
        assert len(world.records()) == 3
        assert len(world.published("expired")) == 2

    live(server, story, guide("g"), guide("h"))


async def _dies(*_):
    raise OutageError


def test_f07_a_due_time_stays_until_the_broker_has_it(server):
    async def story(world):
        await world.put(lead())
        world.arbiter.now += 10_000
        world.down = True
        for _ in range(2):
            with pytest.raises(OutageError):
                await world.timers.tick()
        world.down = False
        await world.tick()
        assert world.story()[1] == "expired g"

    live(server, story, guide("g"))


def test_f43_late_events_change_nothing_and_are_told(server):
    async def story(world):
        await world.put(lead())
        await world.say("accepted", guide_id="g")
        await world.say("won", guide_id="g")
        before = world.story()
        for action in ("accepted", "declined", "lost", "seen", "contacted", "won"):
            assert await world.say(action, guide_id="g") == "late"
        await world.say("withdrawn")
        await world.wait(200, step_s=10)
        assert world.story() == before
        assert world.dead_letters() == []

    live(server, story, guide("g"))


def test_f44_what_comes_before_its_lead_is_parked_and_then_applied(server):
    async def story(world):
        assert await world.say("declined", guide_id="g", response_id="early") is None
        assert await world.say("withdrawn", lead_id="k") is None
        await world.put(lead(), lead("k"))
        assert (world.state("l"), world.state("k")) == ("offered g", "offered g")
        await world.wait(3)
        assert world.story("l")[1] == "declined g"
        assert await world.told("early") == "applied"
        assert world.state("k").startswith("withdrawn")
        assert await world.redis.zcard("lr:{b/parked}:due") == 0

    live(server, story, guide("g", capacity=2))


def test_f44_a_lead_that_is_not_projected_yet_loses_no_deadline_however_late_the_projector_is(server):
    async def story(world):
        world.projector = SimpleNamespace(project=_nothing_is_projected)
        await world.put(lead())
        for _ in range(3):
            world.arbiter.now += EARLY_MAX_MS
            await world.tick()
        assert (world.dead_letters(), world.state().split()[0]) == ([], "offered")
        world.projector = Projector(world.arbiter, lambda: world.reference.roster, lambda: 0)
        await world.projector.project(world.log[ASSIGNMENTS.name])
        await world.wait(3)
        assert [each.split()[0] for each in world.story()[1:]] == ["expired", "offered"]

    live(server, story, guide("g"), guide("h"))


async def _nothing_is_projected(_records):
    pass


def test_f44_what_belongs_to_no_lead_is_set_aside_after_the_horizon(server):
    async def story(world):
        await world.say("declined", guide_id="g")
        await world.wait(EARLY_MAX_MS // 1000, step_s=30)
        assert world.dead_letters() == []
        await world.wait(30, step_s=10)
        assert world.dead_letters() == ["unknown"]
        await world.wait(30, step_s=10)
        assert world.dead_letters() == ["unknown"]
        assert await world.redis.zcard("lr:{b/parked}:due") == 0

    live(server, story, guide("g"))


def test_f55_to_accept_twice_or_on_two_devices_is_to_accept_once(server):
    async def story(world):
        await world.put(lead())
        assert await world.say("accepted", guide_id="g", response_id="phone") == "applied"
        assert await world.say("accepted", guide_id="g", response_id="phone") == "applied"
        assert await world.say("accepted", guide_id="g", response_id="tablet") == "illegal"
        assert world.story() == ["offered g", "accepted g"]
        assert world.records()[1]["record"]["answered"] == 1

    live(server, story, guide("g"))


def test_f55_to_accept_after_the_deadline_or_for_somebody_else_is_told_so(server):
    async def story(world):
        await world.put(lead())
        first = world.state().split()[1]
        [other] = {"g", "h"} - {first}
        assert await world.say("accepted", guide_id=other) == "not_yours"
        assert await world.say("accepted", guide_id="stranger") == "not_yours"
        await world.wait(10)
        assert world.state() == f"offered {other}"
        assert await world.say("accepted", guide_id=first) == "late"
        assert await world.say("accepted", guide_id=first, attempt=1) == "late"
        assert world.state() == f"offered {other}"
        assert await world.say("accepted", guide_id=other, attempt=2) == "applied"

    live(server, story, guide("g"), guide("h"))


def test_f61_chatwoot_10376_10583_what_waits_is_served_before_what_is_new(server):
    """Oldest of the highest tier first, and nobody who came later overtakes in the same queue."""

    async def story(world):
        await world.put(lead("held"))
        tiers = {"old": "new", "older": "new", "vip": "vip"}
        ages = {"old": 20, "older": 10, "vip": 30}
        for name, tier in tiers.items():
            await world.put(lead(name, tier=tier, occurred_at_ms=BEGIN_MS - 60_000 + ages[name]))
        assert all(world.state(name).startswith("waiting") for name in tiers)
        served = []
        for held in ("held", "vip", "older"):
            await world.say("lost", held, guide_id="g")
            await world.put(lead(f"fresh{held}", tier="new"))
            await world.tick()
            served += [name for name in tiers if world.state(name) == "offered g" and name not in served]
            assert world.state(f"fresh{held}").startswith("waiting")
        assert served == ["vip", "older", "old"]

    live(server, story, guide("g"))


def test_f61_a_lead_that_finds_nobody_climbs_the_ladder_and_is_closed_at_its_end(server):
    async def story(world):
        await world.put(lead())
        assert world.story() == ["waiting -"] or world.story()[0].startswith("waiting")
        await world.wait(30)
        assert len(world.records()) == 2
        assert world.records()[1]["rung"] == "hq"
        assert "/hq" in world.records()[1]["queue"]
        await world.wait(39)
        assert len(world.records()) == 2
        await world.wait(1)
        assert world.records()[2]["state"] == "closed"
        assert await world.redis.zcard("lr:{b/-}:waiting") == 0
        assert await world.redis.zcard("lr:{b/-}:due") == 0

    live(server, story, guide("g", capacity=0))


def test_f61_a_place_that_was_found_for_one_who_waits_is_found_for_nobody_else(server):
    """Two looks while the first drain is on its way: the younger lead is not sent for the same place."""

    async def story(world):
        await world.put(lead("old", member_id="n", occurred_at_ms=BEGIN_MS - 2_000), lead("young"))
        world.reference.apply(GUIDES, b"b/g", encode(guide("g", version=2)))
        await world.refresh()
        for _ in range(2):
            await world.timers.tick()
            world.arbiter.now += 1_000
        [drain] = [orjson.loads(record.value) for record in world.log[RESPONSES.name]]
        assert (drain["lead_id"], drain["guide_id"]) == ("old", "g")
        await world.settle()
        assert (world.state("old"), world.state("young")[:7]) == ("offered g", "waiting")

    live(server, story, guide("g", capacity=0))


def test_f61_who_is_drained_takes_no_place_of_one_who_came_before(server):
    """The younger finds its guide taken, and the other one is left to the elder, who is still on its way."""

    async def story(world):
        await world.put(lead("old", member_id="n", occurred_at_ms=BEGIN_MS - 2_000), lead("young"))
        await world.put(guide("g", version=2))
        await world.say("drain", "young", guide_id="h", response_id="t.1")
        assert world.state("young")[:7] == "waiting"
        await world.say("drain", "old", member_id="n", guide_id="h", response_id="t.2")
        assert world.state("old") == "offered g"  # nobody waits before it, so another one will do

    live(server, story, guide("g", capacity=0), guide("h", capacity=0))


def test_f61_nobody_waits_for_ever_behind_many_whom_nobody_can_serve(server):
    """Of the same queue and tier: the look goes on behind them, and comes back to the front."""

    async def story(world):
        far = [lead(f"far{n:03}", member_id=f"n{n}", lat=31.9, lon=121.9) for n in range(2 * WAITERS_MAX)]
        await world.put(*far, lead("near", occurred_at_ms=BEGIN_MS + 1))
        await world.put(guide("g", version=2))
        await world.wait(5)
        assert world.state("near") == "offered g"
        assert world.state("far000").split()[0] == "waiting"

    # the market's other store is beyond the radius of the near lead, and has nobody
    live(server, story, store("t", lat=31.9, lon=121.9), guide("g", capacity=0))


def test_f61_a_waiting_lead_is_drained_when_a_guide_comes_back(server):
    async def story(world):
        await world.put(presence("g", "offline"), lead())
        assert world.state().startswith("waiting")
        await world.wait(3)
        await world.put(presence("g", "online", BEGIN_MS + 1))
        await world.tick()
        assert world.state() == "offered g"
        assert await world.inbox("g") == ["l"]

    live(server, story, guide("g"))


def test_chatwoot_5672_the_age_of_who_waits_longest_in_each_queue_is_known(server):
    """By the name of the queue, its needs left out."""

    async def story(world):
        await world.tick()
        assert world.timers.oldest_ms == {}
        old = lead("old", occurred_at_ms=BEGIN_MS - 500, needs=("suits",))
        await world.put(lead("young"), old, lead("named", store_id="s"))
        await world.tick()
        ages = {("b", "@hq"): BEGIN_MS - 500, ("b", "@hq/store/s"): BEGIN_MS}
        assert world.timers.oldest_ms == ages
        await world.say("withdrawn", "old")
        await world.tick()
        assert world.timers.oldest_ms == dict.fromkeys(ages, BEGIN_MS)

    live(server, story)


def test_odoo_115893_whoever_is_offered_a_lead_finds_it_in_the_inbox(server):
    """At any moment the inboxes hold what the log says is held, and each guide no more than there is room."""

    async def story(world):
        names = [f"l{n}" for n in range(9)]
        await world.put(*(lead(name, tier="vip" if n % 2 else None) for n, name in enumerate(names)))
        for round_ in range(8):
            await world.wait(5, step_s=5)
            for n, name in enumerate(names):
                state, who = world.state(name).split()[:2]
                if state == "offered" and (n + round_) % 3 == 0:
                    await world.say("declined" if n % 2 else "accepted", name, guide_id=who)
            held = {"g": [], "h": [], "i": []}
            for name in names:
                state, who = world.state(name).split()[:2]
                if state in LIVE_STATES:
                    held[who].append(name)
            for guide_id, leads in held.items():
                assert sorted(await world.inbox(guide_id)) == leads
                assert await world.load(guide_id) == len(leads) <= 2

    live(server, story, *(guide(name, capacity=2) for name in "ghi"))


@pytest.mark.parametrize("gone", ["deleted", "inactive", "store closed"])
def test_f63_the_leads_of_a_guide_who_is_gone_are_given_to_somebody_else_once(server, gone):
    async def story(world):
        await world.put(presence("h", "offline"), lead("a"), lead("b"))
        await world.say("accepted", "a", guide_id="g")
        await world.put(presence("h", "online", BEGIN_MS + 1))
        if gone == "deleted":
            await world.remove(GUIDES, "b/g")
        elif gone == "inactive":
            await world.put(guide("g", version=2, active=False))
        else:
            await world.put(store(version=2, active=False))
        await world.tick()
        assert world.story("a") == ["offered g", "accepted g", "returned g", "offered h"]
        assert world.story("b") == ["offered g", "returned g", "offered h"]
        await world.wait(8)
        assert len(world.published("returned")) == len(set(world.published("returned"))) == 2
        assert await world.inbox("g") == []
        assert sorted(await world.inbox("h")) == ["a", "b"]

    other = store("t", lat=31.001)
    live(server, story, other, guide("g", capacity=2), guide("h", capacity=2, store_id="t"))


def test_a_guide_silent_so_many_times_running_is_paused_and_told_and_back_by_presence(server):
    async def story(world):
        for name in ("a", "b"):
            await world.put(lead(name))
            await world.wait(10)
            await world.say("withdrawn", name)
        record = world.records("b")[1]["record"]
        assert record["paused_until_ms"] == world.records("b")[1]["at_ms"] + 100_000
        await world.put(lead("c"))
        assert world.state("c").startswith("waiting")
        await world.wait(10)
        assert world.state("c").startswith("waiting")
        await world.put(presence("g", "online", world.arbiter.now))
        await world.tick()
        assert world.state("c") == "offered g"

    live(server, story, guide("g"))


@pytest.mark.parametrize(
    "edit",
    [store(version=5, name="renamed"), guide("g", version=5, capacity=3), None],
    ids=["store", "guide", "gone"],
)
def test_an_edit_of_a_guide_or_a_store_ends_no_pause(server, edit):
    """Nor does an older presence: only who tells anything new of themselves is back."""

    async def story(world):
        await world.put(presence("g", "online", BEGIN_MS - 5))
        for name in ("a", "b"):
            await world.put(lead(name))
            await world.wait(10)
            await world.say("withdrawn", name)
        await (world.put(edit) if edit is not None else world.remove(PRESENCE, "b/g"))
        await world.put(lead("c"))
        await world.wait(5)
        assert world.state("c").startswith("waiting")
        await world.put(presence("g", "online", world.arbiter.now))
        await world.tick()
        assert world.state("c") == "offered g"

    live(server, story, guide("g"))


def test_a_pause_ends_by_itself(server):
    async def story(world):
        for name in ("a", "b"):
            await world.put(lead(name))
            await world.wait(10)
            await world.say("withdrawn", name)
        await world.put(policy("life_max_s = 1000000\n", 2))
        await world.put(lead("c", occurred_at_ms=world.arbiter.now))
        await world.wait(25)
        assert world.state("c").startswith("waiting")
        await world.wait(90, step_s=5)
        assert "offered g" in world.story("c") or world.state("c").startswith("closed")

    live(server, story, guide("g"))


def test_an_answer_ends_a_silence(server):
    async def story(world):
        await world.put(lead("a"))
        await world.wait(10)
        await world.put(lead("b", occurred_at_ms=BEGIN_MS + 1, price_zone="full"))
        await world.say("accepted", "b", guide_id="g")
        assert world.records("a")[1]["record"]["silent"] == 1
        assert world.records("b")[-1]["record"]["silent"] == 0

    live(server, story, guide("g", capacity=3))


def test_who_grabs_a_waiting_lead_gets_it_himself_or_nobody_does(server):
    async def story(world):
        await world.put(presence("g", "offline"), presence("h", "offline"), lead())
        assert world.state().startswith("waiting")
        await world.put(presence("g", "online", BEGIN_MS + 1))
        assert await world.say("grabbed", guide_id="h") == "full"
        assert world.state().startswith("waiting")
        assert await world.say("grabbed", guide_id="g") == "applied"
        assert world.story()[1:] == ["offered g", "accepted g"]

    live(server, story, guide("g", capacity=5), guide("h"))


def test_who_was_told_that_it_is_too_late_does_not_get_it_when_the_response_is_read_again(server):
    async def story(world):
        await world.put(presence("g", "offline"), lead())
        assert await world.say("grabbed", guide_id="g", response_id="r") == "full"
        await world.put(guide("h", 2, capacity=0), presence("g", "online", BEGIN_MS + 1))
        assert await world.say("grabbed", guide_id="g", response_id="r") == "full"
        assert world.state().startswith("waiting")
        assert await world.say("grabbed", guide_id="g", response_id="another") == "applied"

    live(server, story, guide("g"), guide("h", capacity=0))


def test_who_has_a_lead_is_not_told_that_it_is_too_late_by_a_call_that_comes_late(server):
    """The call that was to tell it the first time was given up, and the response read again."""

    async def story(world):
        await world.put(lead())
        late = Outcome(("b", "m", "lead", "l"), "r", changed=False, text=b'{"outcome": "full"}')
        await world.arbiter.tell_outcomes([late])
        await world.arbiter.tell_outcomes([late._replace(changed=True, text=b'{"outcome": "applied"}')])
        await world.arbiter.tell_outcomes([late])
        assert await world.told("r") == "applied"

    live(server, story, guide("g"))


def test_a_lead_of_a_market_that_its_store_has_left_comes_to_its_end_also_after_a_restart(server):
    """The compacted topic tells the market of now alone: nobody would look after the one of before."""

    async def story(world):
        await world.put(lead(), lead("waits"))
        moved = store(version=3, market="new")
        await world.put(moved)
        world = await world.restarted(policy(), moved, guide("g"))
        await world.wait(300)
        assert world.state().startswith("closed")
        assert world.state("waits").startswith("closed")
        assert await world.load("g", "b/old") == 0

    live(server, story, store(version=2, market="old"), guide("g"))


def test_who_has_given_a_lead_back_does_not_get_it_again_but_may_take_it_from_the_pool(server):
    async def story(world):
        await world.put(lead())
        await world.say("declined", guide_id="g")
        await world.wait(10)
        assert world.state().startswith("waiting")
        assert await world.say("grabbed", guide_id="g") == "applied"
        assert world.story()[-2:] == ["offered g", "accepted g"]

    live(server, story, guide("g", capacity=5))


def test_f53_a_worker_whose_clock_is_wrong_ends_no_offer_before_its_time(server, monkeypatch):
    async def story(world):
        await world.put(lead())
        monkeypatch.setattr("time.time", lambda: (BEGIN_MS + 3_600_000) / 1000)
        await world.wait(9)
        assert world.state() == "offered g"

    live(server, story, guide("g"))


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_f54_when_the_clock_of_redis_jumps_a_lead_stays_with_whom_it_is(server, jump_s):
    """Deadlines fire early or late by the jump at most; nobody loses what they have accepted meanwhile."""

    async def story(world):
        await world.put(lead())
        await world.say("accepted", guide_id="g")
        world.arbiter.now += jump_s * 1000
        await world.tick()
        if jump_s < 0:
            assert world.state() == "accepted g"
            await world.wait(3600 + 59, step_s=100)
            world.arbiter.now = BEGIN_MS + 60_000
            await world.tick()
        assert world.story()[:3] == ["offered g", "accepted g", "returned g"]

    live(server, story, guide("g"))


def test_f54_an_end_that_is_read_after_the_clock_went_back_comes_again(server):
    async def story(world):
        await world.put(lead())
        world.arbiter.now += 10_000
        await world.timers.tick()
        world.arbiter.now -= 5_000
        await world.settle()
        assert world.state() == "offered g"
        await world.wait(5)
        assert world.story()[1] == "expired g"

    live(server, story, guide("g"))


def test_a_reservation_is_followed_as_a_lead_is(server):
    async def story(world):
        soon_ms = BEGIN_MS + 10**7
        await world.put(booked(starts_at_ms=soon_ms, ends_at_ms=soon_ms + 10**6))
        first = world.state().split()[1]
        await world.say("declined", guide_id=first, kind="reservation")
        [other] = {"g", "h"} - {first}
        assert world.story()[1:] == [f"declined {first}", f"offered {other}"]
        await world.wait(10)
        assert world.story()[3] == f"expired {other}"

    live(server, story, guide("g"), guide("h"))


def test_f64_a_policy_that_comes_in_mid_batch_rules_the_next_one(server):
    """Each decision carries the one policy by which all of it was made."""

    async def story(world):
        claim, told = world.arbiter.claim, policy(version=2, toml=TOML.replace("= 10", "= 20"))

        async def reload_first(asked):
            world.reference.apply(POLICIES, b"b/2", encode(told))
            return await claim(asked)

        world.arbiter.claim = reload_first
        await world.put(*(lead(f"l{n}", member_id=f"m{n}") for n in range(3)))
        world.arbiter.claim = claim
        await world.put(lead("later", member_id="n"))
        found = [
            (record["policy_version"], record["respond_by_ms"] - record["at_ms"])
            for name in ("l0", "l1", "l2", "later")
            for record in world.records(name)
        ]
        assert found == [(1, 10_000)] * 3 + [(2, 20_000)]

    live(server, story, guide("g", capacity=9))


def test_columns_that_are_laid_out_anew_while_redis_is_asked_send_no_lead_astray(server):
    """Its batch holds rows of the roster as it was."""

    async def story(world):
        fix_cells = world.arbiter.fix_cells

        async def meanwhile(*args):
            await world.remove(STORES, "b/a")
            world.reference.roster = compact(world.reference.roster)
            return await fix_cells(*args)

        world.arbiter.fix_cells = meanwhile
        await world.put(lead(store_id="s", lat=None, lon=None))
        assert world.state() == "offered g"

    live(server, story, store("a", lat=30.0), guide("x", store_id="a"), guide("g"))


def test_a_long_look_at_those_who_wait_is_followed_by_a_longer_rest(server):
    """However many wait, the worker has most of its time for those who come; the rest has an end."""

    async def story(world):
        await world.put(lead())
        looks, slow_ms = [], 300

        async def placeable(_, now_ms):
            looks.append(now_ms)
            world.arbiter.now += slow_ms
            return []

        world.timers.flow, world.timers.rest = SimpleNamespace(placeable=placeable), 4
        begin = world.arbiter.now
        for _ in range(40):
            world.reference.traffic.changes["b/-"] += 1
            await world.timers.tick()
            world.arbiter.now += 100
        assert len(looks) * slow_ms <= (world.arbiter.now - begin) / 3
        assert len(looks) > 2

    live(server, story)

"""What every worker knows in full: newest wins, bad records change nothing, Redis is told what changed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.reference import REFERENCE_TOPICS, Reference
from router.rules.offers import Answer
from router.traffic import CLOCK, checksum, over_capacity
from scoring.fairness import LEAD
from scoring.roster import effective_capacity
from topics.catalog import GUIDES, MEMBERS, POLICIES, PRESENCE, STORES
from topics.codec import encode, key_of
from topics.fields import Period
from topics.guides import Guide, Presence
from topics.members import Member
from topics.policies import Policy
from topics.stores import Store

NOW_MS = 1_700_000_000_000
TOPIC_OF = {topic.event: topic for topic in REFERENCE_TOPICS}


def store(store_id="s1", version=1, market=None, **more):
    fields = {"lat": 31.0, "lon": 121.0, "kind": "franchise", "active": True} | more
    return Store(store_id=store_id, brand="b", version=version, market=market, **fields)


def guide(guide_id="g", version=1, store_id="s1", capacity=3, **more):
    fields = {"active": True} | more
    return Guide(
        guide_id=guide_id, brand="b", version=version, store_id=store_id, capacity=capacity, **fields
    )


def presence(status, at_ms=NOW_MS, guide_id="g"):
    return Presence(guide_id=guide_id, brand="b", status=status, occurred_at_ms=at_ms)


class World:
    """A reference, what it refused, and a Redis that keeps the rules of set_capacity.lua."""

    def __init__(self, *events):
        self.refused = []
        self.redis = {}
        self.restart(*events)

    def restart(self, *events):
        self.reference = Reference(lambda topic, reason: self.refused.append((topic, reason)))
        self.put(*events)

    def put(self, *events):
        for event in events:
            topic = TOPIC_OF[type(event)]
            self.reference.apply(topic, key_of(topic, event), encode(event))

    def remove(self, topic, key):
        self.reference.apply(topic, key.encode(), None)

    def refresh(self, now_ms=NOW_MS):
        """One turn of the worker; guide to capacity of what had to be told."""
        rows = self.reference.refresh(now_ms)
        for cell, guide_id, version, capacity in rows:
            if version >= self.redis.get((cell, guide_id), (-1, 0))[0]:
                self.redis[cell, guide_id] = (version, capacity)
        self.reference.told(rows)
        assert self.reference.refresh(now_ms) == []
        return sorted((cell, guide_id, capacity) for cell, guide_id, _, capacity in rows)

    def rooms(self):
        return {place: capacity for place, (_, capacity) in self.redis.items() if capacity}

    @property
    def roster(self):
        return self.reference.roster

    def loads(self):
        """Open leads by guide, of those who have any, as the columns have them."""
        return self._column("guide_load")

    def turns(self):
        """The same of turns."""
        return self._column("guide_turn")

    def _column(self, name):
        rows = self.roster.guide_rows()
        values = getattr(self.roster, name)[rows].tolist()
        return {
            guide: value
            for guide, value in zip(self.roster.guide_ids.take(rows), values, strict=True)
            if value
        }


def guides(world):
    """The guides there are."""
    roster = world.roster
    return sorted(roster.guide_ids.take(roster.guide_rows()))


# --- newest wins -------------------------------------------------------------------------------------------

records = st.one_of(
    st.builds(
        store,
        st.sampled_from(("s1", "s2")),
        st.integers(1, 3),
        st.sampled_from((None, "m")),
        active=st.booleans(),
    ),
    st.builds(
        guide,
        st.sampled_from("gh"),
        st.integers(1, 3),
        st.sampled_from(("s1", "s2", "s3")),
        st.sampled_from((None, 0, 2)),
    ),
    st.builds(presence, st.sampled_from(("online", "offline")), st.integers(1, 3), st.sampled_from("gh")),
    st.builds(
        lambda version, tier: Member(member_id="m", brand="b", version=version, tier=tier),
        st.integers(1, 3),
        st.sampled_from(("vip", "new")),
    ),
)


def identity(event):
    topic = TOPIC_OF[type(event)]
    age = event.occurred_at_ms if isinstance(event, Presence) else event.version
    return topic.name, key_of(topic, event), age


def columns(roster):
    """The columns by name, in an order that does not hang on who came first."""
    rows = [roster.store_row("b", name) for name in sorted(roster.store_ids.take(roster.square_store))]
    guides = [roster.guide_row("b", name) for name in sorted(roster.guide_ids.take(roster.guide_rows()))]
    stores = [(roster.store_ids[row], roster.cell_of(row), bool(roster.store_active[row])) for row in rows]
    capacity = effective_capacity(roster, NOW_MS)
    return stores, [
        (roster.guide_ids[row], roster.store_ids[roster.guide_store[row]], int(capacity[row]))
        for row in guides
    ]


@settings(deadline=None, max_examples=60)
@given(events=st.lists(records, max_size=10), random=st.randoms())
def test_f45_versions_converge_in_any_order_and_so_does_redis(events, random):
    """Also when two workers read in different orders, and refresh at different moments."""
    events = list({identity(event): event for event in events}.values())
    one, other = World(), World()
    other.redis = one.redis
    orders = [random.sample(events, len(events)) for _ in range(2)]
    for turn in range(len(events)):
        for world, order in zip((one, other), orders, strict=True):
            world.put(order[turn])
            if random.random() < 0.6:
                world.refresh()
    one.put(*events)  # again, since delivery is at least once
    for world in random.sample((one, other), 2):
        world.refresh()
    assert columns(one.roster) == columns(other.roster)
    roster, capacity = one.roster, effective_capacity(one.roster, NOW_MS)
    now = {
        (roster.cell_of(int(roster.guide_store[row])), roster.guide_ids[row]): int(capacity[row])
        for row in roster.guide_rows().tolist()
    }
    assert one.rooms() == {place: room for place, room in now.items() if room}


def test_an_equal_version_is_a_correction():
    world = World(store(), guide(capacity=3), guide(capacity=5))
    assert world.refresh() == [("b/-", "g", 5)]


def test_a_tombstone_removes_whom_it_names():
    world = World(store(), guide("g"), guide("h"))
    world.refresh()
    world.remove(GUIDES, "b/g")
    world.remove(GUIDES, "b/nobody")
    assert world.refresh() == [("b/-", "g", 0)]
    assert guides(world) == ["h"]
    world.remove(STORES, "b/s1")
    assert world.refresh() == [("b/-", "h", 0)]
    assert world.roster.store_count == world.roster.guide_count == 0
    assert guides(world) == []
    assert world.rooms() == {}


def test_a_tombstone_of_a_presence_means_nobody_knows_better():
    world = World(store(), guide(), presence("offline"))
    assert world.refresh() == [("b/-", "g", 0)]
    world.remove(PRESENCE, "b/g")
    assert world.refresh() == [("b/-", "g", 3)]


def test_an_erased_member_has_no_tier_any_more():
    world = World(Member(member_id="m", brand="b", version=1, tier="vip"))
    world.remove(MEMBERS, "b/m")
    assert world.reference.tiers([request()]) == ["prospect"]


@pytest.mark.parametrize(
    ("topic", "value", "reason"),
    [
        (GUIDES, b"not json", "not_json"),
        (GUIDES, b'{"guide_id":"g"}', "invalid"),
        (GUIDES, encode(guide(version=9))[:-1] + b',"version":9}', "duplicate_key"),
        (STORES, encode(store(version=9)).replace(b"31.0", b'"x"'), "invalid"),
        (POLICIES, encode(Policy(brand="b", version=9, toml="radius_km = 'far'")), "invalid"),
        (POLICIES, encode(Policy(brand="b", version=9, toml="[[")), "invalid"),
        (GUIDES, b"x" * 70_000, "too_large"),
    ],
)
def test_a_bad_record_is_counted_and_what_was_known_stays(topic, value, reason):
    world = World(store(), guide(), Policy(brand="b", version=1, toml="radius_km = 7"))
    world.refresh()
    world.reference.apply(topic, b"b/g", value)
    world.reference.apply(topic, b"\xff\xfe", None)
    assert world.refused == [(topic.name, reason)]
    assert world.refresh() == []
    assert guides(world) == ["g"]
    assert ruling(world, "b").radius_km == 7


# --- what Redis is told ------------------------------------------------------------------------------------


def test_what_was_told_is_not_told_again():
    world = World(store(), guide("g"), guide("h", capacity=None))
    assert world.refresh() == [("b/-", "g", 3), ("b/-", "h", 20)]
    world.put(guide("g"), store())
    assert world.refresh() == []
    world.put(guide("g", version=2, capacity=4))
    assert world.refresh() == [("b/-", "g", 4)]


def test_what_redis_did_not_hear_is_told_again():
    world = World(store(), guide())
    rows = world.reference.refresh(NOW_MS)
    assert world.reference.refresh(NOW_MS) == rows != []


def test_offline_is_no_room_and_back_is_room():
    world = World(store(), guide())
    world.refresh()
    world.put(presence("offline", 5))
    assert world.refresh() == [("b/-", "g", 0)]
    world.put(presence("online", 4))
    assert world.refresh() == []
    world.put(presence("away", 6))
    assert world.refresh() == [("b/-", "g", 3)]


def test_leave_begins_and_ends_by_the_clock_alone():
    world = World(store(), guide(leave=(Period(from_ms=NOW_MS + 10, to_ms=NOW_MS + 20),)))
    assert world.refresh(NOW_MS) == [("b/-", "g", 3)]
    assert world.refresh(NOW_MS + 9) == []
    assert world.refresh(NOW_MS + 10) == [("b/-", "g", 0)]
    assert world.rooms() == {}
    assert world.refresh(NOW_MS + 20) == [("b/-", "g", 3)]
    assert world.rooms() == {("b/-", "g"): 3}


@pytest.mark.parametrize("event", [store(version=2, active=False), guide(version=2, active=False)])
def test_f63_a_closed_store_and_a_guide_who_left_keep_no_room(event):
    world = World(store(), guide())
    world.refresh()
    world.put(event)
    assert world.refresh() == [("b/-", "g", 0)]


def test_a_guide_who_moves_keeps_no_room_in_the_old_cell():
    world = World(store("s1", market="x"), store("s2", market="y"), guide())
    assert world.refresh() == [("b/x", "g", 3)]
    world.put(guide(version=2, store_id="s2"))
    assert world.refresh() == [("b/x", "g", 0), ("b/y", "g", 3)]
    world.put(guide(version=3, store_id="s1"))
    assert world.refresh() == [("b/x", "g", 3), ("b/y", "g", 0)]
    world.put(store("s1", version=2, market="z"))
    assert world.refresh() == [("b/x", "g", 0), ("b/z", "g", 3)]
    assert world.rooms() == {("b/z", "g"): 3}


@pytest.mark.parametrize("restarts", [False, True])
def test_a_guide_who_moves_to_a_store_of_a_lower_version_is_heard(restarts):
    """Versions of different stores do not compare: what the guide says counts first."""
    stores = (store("s1", version=2**53), store("s2", version=1))
    world = World(*stores, guide())
    world.refresh()
    moved = guide(version=2, store_id="s2", capacity=1)
    if restarts:
        world.restart(*stores, moved)
    else:
        world.put(moved)
    assert world.refresh() == [("b/-", "g", 1)]
    assert world.rooms() == {("b/-", "g"): 1}


@pytest.mark.parametrize(
    ("news", "room"),
    [
        (guide(version=2, capacity=3), 3),
        (guide(version=2, capacity=1), 1),
        (store(version=2), 3),
        (store(version=2, active=False), 0),
        (presence("offline", 6), 0),
        (presence("away", 6), 3),
    ],
)
def test_a_worker_that_knows_less_does_not_overrule_one_that_knows_more(news, room):
    """Not even where the news changes no number."""
    leave = {"leave": (Period(from_ms=NOW_MS, to_ms=NOW_MS + 1),)}
    known = (store(), presence("online", 5), guide(**leave))
    ahead, behind = World(*known), World(*known)
    behind.redis = ahead.redis
    ahead.refresh(NOW_MS - 1)
    ahead.put(news)
    ahead.refresh(NOW_MS - 1)
    told = dict(ahead.redis)
    for now_ms in (NOW_MS, NOW_MS + 1):
        behind.refresh(now_ms)
        assert ahead.redis == told
    assert ahead.rooms() == ({("b/-", "g"): room} if room else {})


def test_guides_of_unknown_stores_are_told_once_their_store_is_known():
    world = World(guide())
    assert world.refresh() == []
    assert world.reference.cell_of_guide("b", "g") == ""
    world.put(store(market="m"))
    assert world.refresh() == [("b/m", "g", 3)]
    assert world.reference.cell_of_guide("b", "g") == "b/m"
    assert world.reference.cell_of_guide("nowhere", "g") == ""


# --- loads -------------------------------------------------------------------------------------------------


def request(brand="b", member_id="m", tier=None):
    event = SimpleNamespace(brand=brand, member_id=member_id, tier=tier)
    return SimpleNamespace(event=event, visit_ms=None)


def answer(result, guide_id="g"):
    choice = f"{guide_id}|{LEAD}|s1|0.5000|near" if guide_id else "hq|3|5|near"
    state, start = ("offered", 9) if guide_id else ("waiting", 0)
    return Answer(result, state, 1, (f"{state} 1 2 3 0 4 {start} lead|l - {choice}",))


def test_only_places_that_were_taken_now_are_counted():
    world = World(store(), guide("g"), guide("h"))
    world.refresh()
    answers = [answer("ok"), answer("ok"), answer("ok", "h"), answer("replay"), answer("conflict")]
    answers += [answer("waiting", None), answer("ok", "stranger")]
    world.reference.traffic.count([request()] * len(answers), answers)
    assert world.loads() == {"g": 2, "h": 1}
    assert world.turns() == {"g": 9 + LEAD, "h": 9 + LEAD}
    world.reference.traffic.change("b/-", "g", 1, 5, "-")
    world.reference.traffic.forget_guesses()
    assert (world.loads(), world.turns()) == ({"g": 1}, {"g": 5})


def test_loads_survive_new_columns():
    world = World(store(), guide("g"), guide("h"))
    world.refresh()
    world.reference.traffic.set_cell("b/-", {"g": 2, "nobody": 7}, {"g": 4, CLOCK: 3}, {})
    world.put(store("s0", lat=-31.0), guide("a", store_id="s0"), guide("g", version=2))
    world.refresh()
    assert world.loads() == {"g": 2}
    assert (world.turns(), world.roster.cell_clock.max()) == ({"g": 4}, 3)
    world.reference.traffic.change("b/-", "g", 0, 4, "-")
    world.reference.traffic.change("b/-", "a", 1, 2, "-")
    assert world.loads() == {"a": 1}
    world.reference.traffic.set_cell("b/-", {}, {}, {})
    assert world.loads() == {}


def test_a_load_counts_in_its_cell_alone_as_it_does_in_redis():
    """Nor is it forgotten when the guide comes back."""
    world = World(store("s1", market="x"), store("s2", market="y"), guide())
    world.refresh()
    world.reference.traffic.set_cell("b/x", {"g": 3}, {"g": 30}, {})
    world.reference.traffic.set_cell("b/y", {"g": 1}, {CLOCK: 8}, {})
    assert world.loads() == {"g": 3}
    world.put(guide(version=2, store_id="s2"))
    world.refresh()
    assert world.loads() == {"g": 1}
    world.reference.traffic.change("b/x", "g", 2, 40, "-")
    world.put(guide(version=3))
    world.refresh()
    assert world.loads() == {"g": 2}


RECORD = f"1.500,3.000,0.250,1.000,2,{NOW_MS + 9},{NOW_MS}"


def records(world):
    """What the columns know of each guide who has a record."""
    names = ("answered", "offered", "won", "closed", "paused_ms", "seen_ms")
    held = {name: world._column(f"guide_{name}") for name in names}
    return {guide: tuple(held[name].get(guide, 0) for name in names) for guide in held["seen_ms"]}


def test_a_guides_record_and_pause_are_known_and_survive_new_columns():
    world = World(store(), guide("g"), guide("h"))
    world.refresh()
    world.reference.traffic.set_cell("b/-", {}, {}, {"g": RECORD})
    known = {"g": (1.5, 3.0, 0.25, 1.0, NOW_MS + 9, NOW_MS)}
    assert records(world) == known
    world.put(store("s0", lat=-31.0), guide("a", store_id="s0"), guide("g", version=2))
    world.refresh()
    assert records(world) == known
    world.reference.traffic.change("b/-", "g", 0, 0, "-")
    assert records(world) == {}


def test_a_record_counts_in_its_cell_alone_as_it_does_in_redis():
    world = World(store("s1", market="x"), store("s2", market="y"), guide())
    world.refresh()
    world.reference.traffic.set_cell("b/x", {}, {}, {"g": RECORD})
    world.put(guide(version=2, store_id="s2"))
    world.refresh()
    assert records(world) == {}
    world.put(guide(version=3))
    world.refresh()
    assert list(records(world)) == ["g"]


def test_f63_who_is_gone_and_still_holds_leads_is_named():
    """In any cell: deleted, at work no more, or of a closed store; nobody else, and nobody without leads."""
    world = World(
        store(), store("s2"), *(guide(name) for name in ("g", "h", "i", "j")), guide("k", store_id="s2")
    )
    world.refresh()
    loads = dict.fromkeys(("g", "h", "j", "k", "stranger"), 1)
    world.reference.traffic.set_cell("b/-", loads, {}, {})
    assert world.reference.traffic.gone_with_leads(["b/-"]) == {"b/-": ["stranger"]}
    world.remove(GUIDES, "b/g")
    world.put(guide("h", version=2, active=False), guide("i", version=2, active=False))
    world.put(store("s2", version=2, active=False))
    world.refresh()
    [(cell, gone)] = world.reference.traffic.gone_with_leads(["b/-", "b/other"]).items()
    assert (cell, sorted(gone)) == ("b/-", ["g", "h", "k", "stranger"])
    world.reference.traffic.change("b/other", "g", 1, 0, "-")
    assert world.reference.traffic.gone_with_leads(["b/other"]) == {"b/other": ["g"]}
    world.reference.traffic.set_cell("b/-", {"j": 1}, {}, {})
    assert world.reference.traffic.gone_with_leads(["b/-"]) == {}


def test_everything_by_which_a_waiting_lead_may_find_somebody_is_a_change():
    world = World(store(), guide("g"))
    seen = [world.reference.changes("b/-")]

    def changed():
        seen.append(world.reference.changes("b/-"))
        return seen[-1] > seen[-2]

    world.refresh()
    assert changed()
    world.refresh()
    assert not changed()
    world.put(guide("g", version=2, capacity=9))
    world.refresh()
    assert changed()
    world.put(presence("offline"))
    world.refresh()
    assert changed()
    traffic = world.reference.traffic
    traffic.change("b/-", "g", 1, 0, "-")
    assert not changed()  # who is taken up is of no use to anybody
    traffic.change("b/-", "g", 0, 0, "-")
    assert changed()
    traffic.change("b/-", "g", 0, 0, f"1.000,1.000,0.000,0.000,2,{NOW_MS},1")
    assert not changed()
    traffic.change("b/-", "g", 0, 0, "1.000,1.000,0.000,0.000,0,0,1")
    assert changed()  # a pause was lifted
    traffic.change("b/other", "h", 1, 0, "-")
    traffic.change("b/other", "h", 0, 0, "-")
    assert not changed()


def test_two_workers_tell_by_one_number_whether_they_know_the_same():
    """Whatever the order in which they came to know it."""
    events = [store(), store("s2", lat=-31.0), guide("g"), guide("h", store_id="s2"), presence("offline", 5)]
    one, other = World(*events), World(*reversed(events))
    for world in (one, other):
        world.refresh()
        world.reference.traffic.change("b/-", "h", 2, 0, "-")
    assert checksum(one.roster) == checksum(other.roster)
    other.reference.traffic.change("b/-", "h", 1, 0, "-")
    assert checksum(one.roster) != checksum(other.roster)
    one.reference.traffic.change("b/-", "h", 7, 0, "-")
    assert (over_capacity(one.roster), over_capacity(other.roster)) == (4, 0)


def test_a_cell_has_room_while_somebody_at_work_there_has():
    world = World(store(), store("s2", market="x"), guide("g", capacity=1), guide("h", store_id="s2"))
    world.refresh()
    traffic = world.reference.traffic
    assert traffic.with_room() == {"b/-", "b/x"}
    traffic.change("b/-", "g", 1, 0, "-")
    assert traffic.with_room() == {"b/x"}
    world.put(guide("h", version=2, store_id="s2", active=False))
    world.refresh()
    assert traffic.with_room() == set()


# --- policies and tiers ------------------------------------------------------------------------------------


def ruling(world, brand):
    [(policy, _)] = world.reference.by_policy([request(brand)])
    return policy


def test_requests_are_grouped_by_the_policy_that_rules_them():
    world = World(Policy(brand="b", version=4, toml="radius_km = 7"))
    batch = [request(brand) for brand in ("x", "b", "y", "b", "x")]
    groups = world.reference.by_policy(batch)
    assert [(policy.version, policy.radius_km) for policy, _ in groups] == [(0, 30), (4, 7)]
    assert [[id(each) for each in group] for _, group in groups] == [
        [id(batch[row]) for row in (0, 2, 4)],
        [id(batch[row]) for row in (1, 3)],
    ]


def test_f45_the_highest_version_of_a_policy_rules():
    world = World()
    for version in (2, 1, 3, 2):
        world.put(Policy(brand="b", version=version, toml=f"radius_km = {version}"))
    assert (ruling(world, "b").version, ruling(world, "b").radius_km) == (3, 3)


def test_the_tier_is_the_requests_own_else_the_members_else_prospect():
    world = World(
        Member(member_id="m", brand="b", version=1, tier="vip"), Member(member_id="n", brand="b", version=1)
    )
    batch = [request(tier="new"), request(), request(member_id="n"), request(brand="x")]
    assert world.reference.tiers(batch) == ["new", "vip", "prospect", "prospect"]


def test_an_empty_reference_serves():
    world = World()
    assert world.refresh() == []
    assert world.reference.by_policy([]) == []
    assert world.reference.tiers([]) == []
    assert world.loads() == {}
    world.reference.traffic.count([], [])
    assert np.array_equal(effective_capacity(world.roster, NOW_MS), [])

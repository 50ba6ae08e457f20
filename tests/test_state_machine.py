"""Leads, responses, presence, time and repeats in any order: what DESIGN promises holds after every step."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from hashlib import sha1

import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from router.errors import EffectError, OutageError
from router.local import EmbeddedRedis
from router.state import keys
from router.state.redis import Scripts
from tests.lifecycle_model import FINAL, LIVE, TIERS, LeadModel, Model
from tests.lifecycle_world import (
    BEGIN_MS,
    LifecycleWorld,
    booked,
    guide,
    lead,
    policy,
    presence,
    store,
)
from tests.parts import PATIENT_S
from topics.catalog import ASSIGNMENTS
from topics.responses import Response

CELL = "b/-"
HOUR_MS = 3_600_000
#: Guides, where they work and how many leads they take.
GUIDES = {"a": ("s", 1), "b": ("s", 2), "c": ("t", 1)}
NAMES = st.sampled_from([f"l{n}" for n in range(8)])
VISITS = st.sampled_from(["v1", "v2", "v3"])
SAID = st.sampled_from(["delivered", "seen", "accepted", "declined", "contacted", "visited", "won", "lost"])


@pytest.fixture(scope="module")
def server():
    with EmbeddedRedis() as redis:
        yield redis


class Lifecycle(RuleBasedStateMachine):
    """The real flow, timers and projector on a real server; the model is told by the log alone."""

    server = None
    mutant = None

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.scripts = Scripts(self.server.url, timeout_s=PATIENT_S)
        if self.mutant is not None:
            text = self.scripts._text["claim"]
            before, after = (part.encode() for part in self.mutant)
            assert text.count(before) == 1
            self.scripts._text["claim"] = text.replace(before, after)
            self.scripts._sha["claim"] = sha1(self.scripts._text["claim"], usedforsecurity=False).hexdigest()
        self.model = Model()
        self.sent, self.versions = [], {}
        self.read = self.said = 0
        self.offered = set()
        self.do(self.begin())

    def teardown(self):
        self.do(self.scripts.close())
        self.loop.close()

    def do(self, step):
        return self.loop.run_until_complete(step)

    async def begin(self):
        await self.scripts.redis.flushall()
        self.world = LifecycleWorld(self.scripts)
        room = {"version": 2, "slots": {"fit": 1}, "slot_minutes": 60}
        await self.world.put(policy(), store(**room), store("t", lat=31.02))
        for name, (store_id, capacity) in GUIDES.items():
            await self.world.put(guide(name, 1, capacity, store_id=store_id))
            self.model.capacity[name], self.model.there[name], self.versions[name] = capacity, True, 1

    def put(self, *events):
        """Take in events; what the log says then must be as the model allows."""
        self.sent += [event for event in events if event not in self.sent]
        self.do(self.world.put(*events))
        return self.look()

    def look(self):
        news, self.offered = [], set()
        log = self.world.log[ASSIGNMENTS.name]
        for record in log[self.read :]:
            event = orjson.loads(record.value)
            known = self.model.leads.get(event["lead_id"])
            if known is not None and event["seq"] <= known.seq:
                continue  # once more: the first counts
            assert self.model.told(event) == []
            news.append(event)
            if event["state"] == "offered":
                self.offered.add(event["guide_id"])
        self.read = len(log)
        return news

    # -- what may happen

    @rule(name=NAMES, tier=st.sampled_from(TIERS), member=st.sampled_from(["m", "n"]))
    def a_lead_comes(self, name, tier, member):
        if name not in self.model.leads:
            self.model.leads[name] = LeadModel("lead", tier, arrival=self.world.arbiter.now)
            self.put(lead(name, tier=tier, member_id=member, occurred_at_ms=self.world.arbiter.now))

    @rule(name=VISITS, hour=st.integers(1, 3), ahead=st.booleans())
    def a_visit_is_booked(self, name, hour, ahead):
        if name not in self.model.leads:
            self.model.leads[name] = LeadModel("reservation", arrival=self.world.arbiter.now)
            self.versions[name] = 1
            self.put(self.visit(name, hour + 30 * ahead))

    @rule(
        name=VISITS,
        hour=st.integers(1, 3),
        status=st.sampled_from(["changed", "cancelled", "arrived", "no_show"]),
    )
    def a_visit_changes(self, name, hour, status):
        if name in self.model.leads:
            self.versions[name] += 1
            self.put(self.visit(name, hour, version=self.versions[name], status=status))

    def visit(self, name, hour, **more):
        starts_ms = BEGIN_MS + (24 + hour) * HOUR_MS
        times = {"starts_at_ms": starts_ms, "ends_at_ms": starts_ms + HOUR_MS}
        when = {"occurred_at_ms": self.world.arbiter.now}
        return booked(name, service="fit", member_id=f"m{name}", **{**times, **when, **more})

    @rule(
        name=st.one_of(NAMES, VISITS),
        action=SAID,
        who=st.sampled_from(["holder", "holder", "holder", "a", "b", "c", "nobody"]),
        back=st.sampled_from([0, 0, 0, 1, None]),
    )
    def a_guide_says(self, name, action, who, back):
        known = self.model.leads.get(name)
        who = (known and known.guide) or "a" if who == "holder" else who
        attempt = None if back is None else max((known.attempt if known else 1) - back, 0)
        self.said += 1
        said = Response(
            response_id=f"r{self.said}",
            lead_id=name,
            kind=known.kind if known else "lead",
            member_id=self.member_of(name),
            brand="b",
            occurred_at_ms=self.world.arbiter.now,
            action=action,
            attempt=attempt,
            guide_id=who,
        )
        if known is None:
            return  # what comes before its lead is another story: it is parked
        effective = self.model.effective(name, action, who, attempt)
        caused = [event for event in self.put(said) if event["cause"]["id"] == said.response_id]
        assert bool(caused) == effective, (said, known)
        assert not effective or caused[0]["state"] == action

    def member_of(self, name):
        sent = [event for event in self.sent if getattr(event, "lead_id", None) == name]
        return sent[0].member_id if sent else f"m{name}"

    @rule(name=NAMES, who=st.sampled_from(list(GUIDES)))
    def a_guide_takes_it_from_the_pool(self, name, who):
        known = self.model.leads.get(name)
        if known is not None:
            self.said += 1
            self.model.grabs.add(f"r{self.said}")
            grab = {"response_id": f"r{self.said}", "action": "grabbed", "guide_id": who}
            whom = {"lead_id": name, "member_id": self.member_of(name), "brand": "b"}
            self.put(Response(occurred_at_ms=self.world.arbiter.now, **grab, **whom))
            assert known.state not in LIVE or known.guide is not None

    @rule(name=st.one_of(NAMES, VISITS))
    def a_member_wants_no_more(self, name):
        if name in self.model.leads:
            self.said += 1
            whom = {"lead_id": name, "member_id": self.member_of(name), "brand": "b"}
            kind = self.model.leads[name].kind
            self.put(
                Response(
                    response_id=f"r{self.said}",
                    action="withdrawn",
                    kind=kind,
                    occurred_at_ms=self.world.arbiter.now,
                    **whom,
                )
            )
            assert self.model.leads[name].state in FINAL

    @rule(who=st.sampled_from(list(GUIDES)), status=st.sampled_from(["online", "away", "offline"]))
    def a_guide_is_there_or_not(self, who, status):
        self.world.arbiter.now += 1
        self.model.there[who] = status != "offline"  # who is away may still look
        self.put(presence(who, status, self.world.arbiter.now))

    @rule(who=st.sampled_from(list(GUIDES)), capacity=st.integers(0, 2))
    def a_guide_takes_more_or_less(self, who, capacity):
        self.versions[who] += 1
        self.model.capacity[who] = capacity
        self.put(guide(who, self.versions[who], capacity, store_id=GUIDES[who][0]))

    @rule(seconds=st.sampled_from([1, 5, 11, 45]), twice=st.booleans())
    def time_passes(self, seconds, twice):
        self.do(self.world.wait(1))
        self.look()
        self.do(self.world.wait(seconds, step_s=seconds))
        self.look()
        if twice:  # two workers look after the same cell for a moment
            self.do(self.world.another_workers_timers().tick())
            self.put()

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def something_comes_once_more(self, data):
        """Whatever it is and however late: nothing changes."""
        assert self.put(data.draw(st.sampled_from(self.sent))) == []

    # -- what must hold then

    @invariant()
    def all_is_accounted_for(self):
        assert self.model.settled(self.offered) == []

    @invariant()
    def redis_holds_what_the_log_says(self):
        open_, waiting, slots = self.do(self.held())
        leads = self.model.leads
        assert sorted(open_) == sorted(
            f"{each.guide}|{each.kind}|{name}" for name, each in leads.items() if each.state in LIVE
        )
        assert sorted(waiting) == sorted(
            f"{each.queue}|{each.kind}|{name}" for name, each in leads.items() if each.state == "waiting"
        )
        assert all(number == 1 for number in Counter(slot for slot, _ in slots).values())
        assert {whom for _, whom in slots} <= {
            name for name, each in leads.items() if each.state not in FINAL
        }

    async def held(self):
        names = [each(CELL) for each in (keys.open_attempts, keys.waiting, keys.slots)]
        held = [[each.decode() for each in await self.scripts.redis.zrange(name, 0, -1)] for name in names]
        return (
            [each.rpartition("|")[0] for each in held[0]],
            ["|".join((each.split("|")[0], *each.split("|")[4:6])) for each in held[1]],
            [("|".join(each.split("|")[:3]), each.split("|")[4]) for each in held[2]],
        )


def machine(server, examples=80, phases=tuple(Phase), *, derandomize="CI" in os.environ, **more):
    """Run it; ``more`` are attributes of the machine. What fails in CI must fail here as well."""
    steps = settings(
        max_examples=examples,
        stateful_step_count=40,
        phases=phases,
        derandomize=derandomize,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(type("Machine", (Lifecycle,), {"server": server, **more}), settings=steps)


def test_whatever_happens_in_whatever_order_each_lead_is_in_one_place(server):
    machine(server)


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param((">= tonumber(most_at_once) then return false", ">= 99 then return false"), id="slot"),
        pytest.param(("if again ~= '' or FINAL[to] then let_go() end", ""), id="letting go"),
    ],
)
def test_without_a_protection_something_goes_wrong(server, mutant):
    """The machine is no better than what it finds; what it meets too seldom the simulator's mutants hold."""
    with pytest.raises((AssertionError, ExceptionGroup, OutageError, EffectError)):
        machine(server, 150, (Phase.generate,), derandomize=True, mutant=mutant)

"""The failures of other systems in sharing leads out, each as a test."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring import beta, fairness
from scoring.build import build
from scoring.match import match
from scoring.policy import Policy
from scoring.rank import rank
from scoring.requests import columns
from scoring.roster import Roster
from tests.scoring_world import NOW_MS
from topics.fields import Period
from topics.guides import Guide, Presence
from topics.leads import Lead
from topics.stores import Store

HORIZON = round(Policy().fair_horizon * fairness.LEAD)
STORE = Store(store_id="s", brand="b", version=1, lat=1, lon=1, kind="franchise", active=True)


@dataclass
class Pool:
    """A store's guides, and what a claim script keeps: a turn for each guide, a clock for the cell."""

    guides: list[Guide]
    turns: dict[str, int] = field(default_factory=dict)
    clock: int = 0
    log: list[tuple[str, fairness.Claimed]] = field(default_factory=list)
    number: int = 0
    presence: list[Presence] = field(default_factory=list)

    def roster(self) -> Roster:
        roster = build([STORE], self.guides, self.presence, capacity_default=10_000)
        for guide in self.guides:
            roster.guide_turn[roster.guide_row("b", guide.guide_id)] = self.turns.get(guide.guide_id, 0)
        roster.cell_clock[0] = self.clock
        return roster

    def run(self, leads=1, now_ms=NOW_MS):
        """One batch; a lead goes to the first of its shortlist, and the claim moves the turns."""
        roster = self.roster()
        made = []
        for _ in range(leads):
            self.number += 1
            name = f"l{self.number}"
            made.append(Lead(lead_id=name, member_id=name, brand="b", occurred_at_ms=now_ms, lat=1, lon=1))
        requests = columns(made, roster)
        requests.cell[:] = 0
        ranking = rank(requests, roster, Policy(), now_ms)
        asked = match(ranking, requests, roster, Policy(), now_ms).ranking
        for row in range(leads):
            guide_id = roster.guide_ids[asked.guide_row[asked.start[row]]]
            step = int(roster.guide_step[roster.guide_row("b", guide_id)])
            done = fairness.claimed(self.turns.get(guide_id, 0), self.clock, step, HORIZON)
            self.turns[guide_id], self.clock = done.turn, done.clock
            self.log.append((guide_id, done))

    def counts(self, since=0):
        return Counter(guide_id for guide_id, _ in self.log[since:])


def guide(guide_id, **more):
    return Guide(guide_id=guide_id, brand="b", version=1, store_id="s", active=True, **more)


def test_two_equals_get_fifteen_of_thirty_leads_each():
    """Odoo CRM PR 259775: equal quotas, oldest member always first, one got 30 of 30."""
    pool = Pool([guide("older"), guide("younger")])
    for _ in range(30):
        pool.run()
    assert pool.counts()["older"] in {14, 15, 16}
    assert pool.counts().total() == 30


@pytest.mark.parametrize("scale", [1, 0.25, 10])
def test_weights_of_one_and_three_get_one_and_three_of_four(scale):
    pool = Pool([guide("one", weight=scale), guide("three", weight=3 * scale)])
    for _ in range(40):
        pool.run()
    assert pool.counts()["one"] in {9, 10, 11}


def test_a_guide_of_weight_zero_gets_what_nobody_else_can_take():
    pool = Pool([guide("never", weight=0), guide("usual")])
    for _ in range(10):
        pool.run()
    assert pool.counts() == {"usual": 10}
    pool.guides[1] = guide("usual", leave=(Period(from_ms=0, to_ms=NOW_MS + 1),))
    pool.run()
    assert pool.counts()["never"] == 1


def test_a_guide_back_from_leave_is_not_flooded():
    """HubSpot: whoever is back gets everything until the count is made up for."""
    away = guide("away", leave=(Period(from_ms=0, to_ms=NOW_MS + 1),))
    pool = Pool([guide("a"), guide("b"), away])
    for _ in range(60):
        pool.run()
    assert pool.counts()["away"] == 0
    for _ in range(12):
        pool.run(now_ms=NOW_MS + 2)
    back = pool.counts(since=60)
    horizon = Policy().fair_horizon
    assert 4 <= back["away"] <= 4 + horizon
    for _ in range(30):
        pool.run(now_ms=NOW_MS + 2)
    assert pool.counts(since=72)["away"] in {9, 10, 11}


def test_who_joins_late_is_not_flooded_either():
    pool = Pool([guide("a"), guide("b")])
    for _ in range(60):
        pool.run()
    pool.guides.append(guide("new"))
    for _ in range(12):
        pool.run()
    assert pool.counts(since=60)["new"] <= 4 + Policy().fair_horizon


def test_editing_the_pool_resets_nothing():
    """HubSpot: to add, remove or change a guide began the count anew for all."""
    pool, quiet = Pool([guide("a"), guide("b")]), Pool([guide("a"), guide("b")])
    for number in range(30):
        pool.guides = [guide("a", level=1 + number % 10), guide("b", name=f"n{number}")]
        if number % 3 == 0:
            pool.guides.append(guide("c", weight=0))
        pool.run()
        quiet.run()
    assert pool.counts()["a"] in {14, 15, 16}
    assert pool.turns.get("a", 0) + pool.turns.get("b", 0) == sum(quiet.turns.values())


def test_the_order_of_the_pool_changes_no_decision():
    pools = [Pool([guide(name) for name in names]) for names in ("abcd", "dcba", "cadb")]
    for pool in pools:
        for _ in range(20):
            pool.run(leads=3)
    logs = [pool.log for pool in pools]
    assert logs[0] == logs[1] == logs[2]


def test_who_has_left_gets_nothing():
    """SuiteCRM 8935, Chatwoot 4158: leads for people who left, or who are offline."""
    pool = Pool(
        [
            guide("here"),
            Guide(guide_id="left", brand="b", version=2, store_id="s", active=False),
            guide("off"),
        ]
    )
    pool.presence = [Presence(guide_id="off", brand="b", status="offline", occurred_at_ms=1)]
    for _ in range(6):
        pool.run(leads=2)
    assert pool.counts() == {"here": 12}


@given(st.data())
def test_turns_and_clocks_come_out_of_the_log_in_any_order_and_however_often(data):
    """They only grow, and each record says where they stood: so the log gives them back."""
    steps = {name: fairness.step_of(weight) for name, weight in (("a", 1), ("b", 3), ("c", None))}
    turns, clock, log = {}, 0, []
    for name in data.draw(st.lists(st.sampled_from("abc"), max_size=20)):
        done = fairness.claimed(turns.get(name, 0), clock, steps[name], HORIZON)
        turns[name], clock = done.turn, done.clock
        log.append((name, done))
    again, clock_again = {}, 0
    for name, done in data.draw(st.permutations(log + log[::2])):
        again[name], clock_again = fairness.replayed(again.get(name, 0), clock_again, done)
    assert (again, clock_again) == (turns, clock)


@given(
    st.lists(st.integers(0, 2**50), min_size=1, max_size=20),
    st.integers(0, 2**50),
    st.integers(0, 10**9),
)
def test_the_more_a_guide_has_had_the_less_due(turns, clock, horizon):
    turn = np.sort(np.array(turns, np.int64))
    due = fairness.due(turn, np.ones(turn.size, np.int32), np.full(turn.size, clock), horizon)
    assert ((due > 0) & (due <= 1)).all()
    assert (np.diff(due) <= 0).all()
    assert not fairness.due(turn, np.zeros(turn.size, np.int32), np.full(turn.size, clock), horizon).any()


def test_a_newcomer_has_the_prior_and_an_estimate_forgets():
    prior = beta.Prior(0.6, 10)
    half_life_ms = 1000

    def mean(hits, tries, age_ms):
        columns_ = [np.array([value], np.float32) for value in (hits, tries)]
        return float(beta.mean(*columns_, beta.faded(np.array([age_ms]), half_life_ms), prior)[0])

    assert mean(0, 0, 0) == pytest.approx(0.6)
    assert mean(10, 10, 0) == pytest.approx(16 / 20)
    assert mean(0, 100, 0) == pytest.approx(6 / 110)
    assert mean(10, 10, 1000) == pytest.approx(11 / 15)
    assert mean(0, 100, 10**9) == pytest.approx(0.6)
    assert mean(10, 10, -5) == mean(10, 10, 0)


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_to_fade_in_two_steps_is_to_fade_once(one_ms, other_ms):
    day_ms = 86_400_000
    both = beta.faded(np.array([one_ms + other_ms]), day_ms)[0]
    steps = beta.faded(np.array([one_ms]), day_ms)[0] * beta.faded(np.array([other_ms]), day_ms)[0]
    assert steps == pytest.approx(both, rel=0.006, abs=1e-300)
    assert beta.observed(np.float32(3), np.array([one_ms]), day_ms, np.float32(1))[0] >= 1

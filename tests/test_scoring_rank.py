"""Every listed filter and feature, the ranking over them and its explanation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.eligibility import ELIGIBILITY
from scoring.explain import explain
from scoring.features import FEATURES
from scoring.policy import Policy
from scoring.rank import Ranking, rank, scores
from scoring.requests import NO_NEED, columns
from scoring.retrieve import candidates
from scoring.roster import build, effective_capacity
from scoring.view import View
from tests.scoring_world import NOW_MS, event_id, world, worlds
from topics.guides import Guide
from topics.leads import Lead
from topics.stores import Store

POLICIES = st.builds(
    Policy,
    radius_km=st.sampled_from((3.0, 500.0)),
    candidates_min=st.sampled_from((1, 1000)),
    shortlist_max=st.sampled_from((1, 2, 3, 16)),
    filters=st.lists(st.sampled_from([name for name, _ in ELIGIBILITY]), unique=True).map(tuple)
    | st.just(Policy().filters),
)


def view_of(world, policy):
    roster = world.roster()
    requests = world.requests(roster)
    found = candidates(requests, roster, policy)
    return View(requests, roster, policy, NOW_MS, found.lead_row, found.guide_row, found.km)


def shuffled(view, seed):
    order = np.random.default_rng(seed).permutation(len(view))
    pairs = (view.lead[order], view.guide[order], view.km[order])
    return order, View(view.requests, view.roster, view.policy, view.now_ms, *pairs)


@pytest.mark.parametrize(("name", "feature"), FEATURES)
@given(world=worlds(), policy=POLICIES, seed=st.integers(0, 99))
def test_a_feature_is_a_number_of_0_to_1_wherever_the_pair_stands(name, feature, world, policy, seed):
    view = view_of(world, policy)
    values = feature(view)
    assert values.shape == (len(view),), name
    assert values.dtype == np.float32
    assert ((values >= 0) & (values <= 1)).all()
    order, other = shuffled(view, seed)
    assert feature(other).tobytes() == values[order].tobytes()


@pytest.mark.parametrize(("name", "allows"), ELIGIBILITY)
@given(world=worlds(), policy=POLICIES, seed=st.integers(0, 99))
def test_a_filter_is_a_mask_wherever_the_pair_stands(name, allows, world, policy, seed):
    view = view_of(world, policy)
    mask = allows(view)
    assert mask.shape == (len(view),), name
    assert mask.dtype == np.bool_
    order, other = shuffled(view, seed)
    assert (allows(other) == mask[order]).all()


def zones(guide, store):
    sold = {"full_price": {"full"}, "outlet": {"special"}}.get(store.kind, {"full", "special"})
    return sold & set(guide.price_zones or sold)


def may_take(world, event, guide, store):
    """Each filter over again on the events themselves, in the order of the list."""
    price_zone = getattr(event, "price_zone", None)
    offline = {(p.brand, p.guide_id) for p in world.presence if p.status == "offline"}
    return {
        "active": guide.active and store.active,
        "present": (guide.brand, guide.guide_id) not in offline,
        "leave": not any(span.from_ms <= NOW_MS < span.to_ms for span in guide.leave),
        "capacity": int(guide.guide_id[1:]) % 4 < (2 if guide.capacity is None else guide.capacity),
        "price_zone": bool(zones(guide, store) & ({price_zone} if price_zone else {"full", "special"})),
        "skills": set(event.needs) <= guide.skills.keys(),
        "stock": not getattr(event, "in_stock", ()) or store.store_id in event.in_stock,
    }


def value_of(name, world, event, guide, store):
    """Some features over again on the events themselves."""
    capacity = 2 if guide.capacity is None else guide.capacity
    price_zone = getattr(event, "price_zone", None)
    sold = zones(guide, store)
    return {
        "skills": sum(guide.skills.get(n, 0) for n in event.needs) / (5 * len(event.needs))
        if event.needs
        else 1,
        "free_capacity": max(0, capacity - int(guide.guide_id[1:]) % 4) / capacity if capacity else 0,
        "owner": float(world.homes[event_id(event)][1] == guide.guide_id),
        "store": float(event.store_id == store.store_id),
        "price_zone": 1.0 if price_zone is None else (price_zone in sold) / len(sold) if sold else 0,
    }.get(name)


@given(worlds(), POLICIES)
def test_filters_and_features_mean_what_they_say(world, policy):
    view = view_of(world, policy)
    guides = {g.guide_id: g for g in world.guides}
    stores = {(s.brand, s.store_id): s for s in world.stores}
    masks = [allows(view) for _, allows in ELIGIBILITY]
    values = {name: feature(view) for name, feature in FEATURES}
    for pair in range(len(view)):
        event = world.events[view.lead[pair]]
        guide = guides[view.roster.guide_ids[view.guide[pair]]]
        store = stores[guide.brand, guide.store_id]
        wanted = may_take(world, event, guide, store)
        assert {name: bool(m[pair]) for (name, _), m in zip(ELIGIBILITY, masks, strict=True)} == wanted
        for name, value in values.items():
            told = value_of(name, world, event, guide, store)
            assert told is None or value[pair] == pytest.approx(told, abs=1e-6), name


def test_distance_is_one_half_at_half_distance():
    view = view_of(world(1), Policy(distance_half_km=7))
    view.km = np.array([0, 7, 21], np.float32)
    assert dict(FEATURES)["distance"](view).tolist() == [1, 0.5, 0.25]


def by_name(ranking, world, roster):
    """A ranking by ids: what must not depend on the order of rows."""
    return {
        event_id(event): (
            [roster.guide_ids[g] for g in ranking.guide_row[ranking.start[row] : ranking.start[row + 1]]],
            ranking.score[ranking.start[row] : ranking.start[row + 1]].tobytes(),
            int(ranking.seen[row]),
            ranking.filtered[row].tolist(),
        )
        for row, event in enumerate(world.events)
    }


@given(worlds(), POLICIES, st.integers(0, 99))
def test_the_order_of_roster_and_batch_changes_no_decision(world, policy, seed):
    named = []
    for each in (world, world, world.shuffled(seed)):
        roster = each.roster()
        named.append(by_name(rank(each.requests(roster), roster, policy, NOW_MS, seed), each, roster))
    assert named[0] == named[1] == named[2]


@given(worlds(), POLICIES)
def test_a_shortlist_holds_the_best_of_the_eligible_of_its_cell(world, policy):
    roster = world.roster()
    requests = world.requests(roster)
    ranking = rank(requests, roster, policy, NOW_MS)
    view = view_of(world, policy)
    guides = {g.guide_id: g for g in world.guides}
    stores = {(s.brand, s.store_id): s for s in world.stores}
    score = scores(view)
    assert ranking.start[0] == 0
    for row, event in enumerate(world.events):
        reasons = dict.fromkeys(dict(ELIGIBILITY), 0)
        eligible = {}
        pairs = np.flatnonzero(view.lead == row)
        for pair in pairs:
            guide = guides[roster.guide_ids[view.guide[pair]]]
            may = may_take(world, event, guide, stores[guide.brand, guide.store_id])
            refusing = [name for name, fine in may.items() if not fine and name in policy.filters]
            if refusing:
                reasons[refusing[0]] += 1
            else:
                eligible[int(view.guide[pair])] = float(score[pair])
        assert ranking.seen[row] == len(pairs)
        assert ranking.filtered[row].tolist() == list(reasons.values())
        mine = slice(ranking.start[row], ranking.start[row + 1])
        shortlist = ranking.guide_row[mine].tolist()
        best = sorted(eligible.values(), reverse=True)[: policy.shortlist_max]
        assert ranking.score[mine].tolist() == best == [eligible[g] for g in shortlist]
        assert len(set(shortlist)) == len(shortlist)
        for guide in shortlist:
            assert roster.store_cell[roster.guide_store[guide]] == requests.cell[row]
            assert roster.store_brand[roster.guide_store[guide]] == requests.brand[row]


@given(worlds(), POLICIES)
def test_the_explanation_sums_to_the_score(world, policy):
    roster = world.roster()
    requests = world.requests(roster)
    ranking = rank(requests, roster, policy, NOW_MS)
    why = explain(ranking, requests, roster, policy, NOW_MS)
    assert why.contributions.shape == (len(requests), len(FEATURES))
    for row in range(len(requests)):
        shortlist = ranking.guide_row[ranking.start[row] : ranking.start[row + 1]].tolist()
        listed = ranking.score[ranking.start[row] : ranking.start[row + 1]]
        assert why.winner[row] == (shortlist[0] if shortlist else -1)
        assert why.score[row] == (listed[0] if shortlist else 0)
        assert why.contributions[row].sum() == pytest.approx(float(why.score[row]), abs=1e-6)
        others = shortlist[1 : 1 + policy.runners_up]
        assert why.runner_up[row].tolist() == others + [-1] * (policy.runners_up - len(others))
        assert why.margin[row, : len(others)].tolist() == [listed[0] - s for s in listed[1:][: len(others)]]
        assert (why.margin[row] >= 0).all()


def test_the_explanation_is_of_the_guide_whom_the_claim_took():
    """Where the first of a shortlist was full, the second won, and lost to nobody but the first."""
    made = world(3, n_stores=4, n_guides=60)
    roster = made.roster()
    requests = made.requests(roster)
    policy = Policy(runners_up=2)
    ranking = rank(requests, roster, policy, NOW_MS)
    row = int(np.argmax(np.diff(ranking.start)))
    first, second, third = ranking.guide_row[ranking.start[row] : ranking.start[row] + 3].tolist()
    rows = np.full(len(requests), -1, np.int32)
    rows[row] = second
    why = explain(ranking, requests, roster, policy, NOW_MS, rows=rows)
    assert why.score[row] == ranking.score[ranking.start[row] + 1]
    assert why.runner_up[row].tolist() == [first, third]
    assert why.margin[row, 0] <= 0 <= why.margin[row, 1]
    assert (np.delete(why.runner_up, row, axis=0) == -1).all()
    assert not np.delete(why.contributions, row, axis=0).any()


def test_a_guide_kept_from_before_is_explained_where_nobody_knows_the_place():
    requests, roster = equals(n_guides=1, n_leads=1)
    requests.lat[:] = requests.lon[:] = np.nan
    ranking = rank(requests, roster, Policy(), NOW_MS)
    why = explain(ranking, requests, roster, Policy(), NOW_MS, rows=np.zeros(1, np.int32))
    assert ranking.seen.tolist() == [0]
    assert why.contributions[0, 0] == 0
    assert 0 < why.score[0] < 1


def equals(n_guides, n_leads):
    """Guides that differ in nothing, and leads that all stand at their store."""
    store = Store(store_id="s", brand="b", version=1, lat=1, lon=1, kind="hq", active=True)
    guides = [
        Guide(guide_id=f"g{i}", brand="b", version=1, store_id="s", active=True) for i in range(n_guides)
    ]
    leads = [
        Lead(lead_id=f"l{i}", member_id="m", brand="b", occurred_at_ms=0, lat=1, lon=1)
        for i in range(n_leads)
    ]
    roster = build([store], guides, [], capacity_default=1)
    requests = columns(leads, roster)
    requests.cell[:] = 0
    return requests, roster


def firsts(ranking: Ranking):
    return ranking.guide_row[ranking.start[:-1]]


def test_ties_fall_evenly_and_by_the_seed():
    requests, roster = equals(n_guides=4, n_leads=4000)
    first = firsts(rank(requests, roster, Policy(), NOW_MS))
    assert np.bincount(first, minlength=4) == pytest.approx(np.full(4, 1000), abs=120)
    again = firsts(rank(requests, roster, Policy(), NOW_MS, seed=-(2**40) - 5))
    assert np.bincount(again, minlength=4) == pytest.approx(np.full(4, 1000), abs=120)
    assert 0.6 < (first != again).mean() < 0.9


@pytest.mark.parametrize("n_guides", [1, 15, 16, 17, 33, 64, 65, 500, 3000])
def test_the_best_are_found_among_any_number(n_guides):
    requests, roster = equals(n_guides, n_leads=5)
    roster.guide_capacity[:] = 100_000
    roster.set_load(np.arange(n_guides), np.random.default_rng(n_guides).permutation(n_guides))
    ranking = rank(requests, roster, Policy(), NOW_MS)
    best = np.argsort(roster.guide_load)[:16]
    assert ranking.guide_row.reshape(5, -1).tolist() == [best.tolist()] * 5


@given(worlds())
def test_nobody_is_listed_when_nobody_may(world):
    roster = world.roster()
    roster.set_presence(np.arange(len(roster.guide_ids)), np.zeros(len(roster.guide_ids), np.bool_))
    requests = world.requests(roster)
    ranking = rank(requests, roster, Policy(), NOW_MS)
    assert not ranking.guide_row.size
    assert (ranking.filtered.sum(axis=1) == ranking.seen).all()
    assert not effective_capacity(roster, NOW_MS).any()
    assert (explain(ranking, requests, roster, Policy(), NOW_MS).winner == -1).all()


def test_needs_are_padded_on_the_right():
    roster = world(1).roster()
    lead = {"member_id": "m", "brand": "a", "occurred_at_ms": 0}
    two = columns([Lead(lead_id="1", needs=("bags", "?"), **lead), Lead(lead_id="2", **lead)], roster)
    assert two.need_tags.tolist() == [[roster.tags["bags"], -2], [NO_NEED, NO_NEED]]

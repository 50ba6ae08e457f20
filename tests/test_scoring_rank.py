"""Every listed filter and feature, the ranking over them and its explanation."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring import features
from scoring.build import build
from scoring.eligibility import ELIGIBILITY
from scoring.explain import contributions, explain, reasons, why_not
from scoring.features import FEATURES
from scoring.layout import cell_name
from scoring.opening import WEEKDAYS
from scoring.policy import Policy
from scoring.rank import Ranking, rank
from scoring.requests import NO_NEED, columns
from scoring.retrieve import candidates
from scoring.roster import effective_capacity
from scoring.score import scores
from scoring.view import View
from tests.scoring_world import NOW_MS, Home, event_id, world, worlds
from topics.guides import Guide
from topics.leads import Lead
from topics.stores import Store

POLICIES = st.builds(
    Policy,
    radius_km=st.sampled_from((3.0, 500.0)),
    candidates_min=st.sampled_from((1, 1000)),
    shortlist_max=st.sampled_from((1, 2, 3, 16)),
    skill_level_min=st.sampled_from((1, 3)),
    level_min=st.sampled_from(({}, {"vip": 7, "prospect": 2})),
    reserve_top=st.sampled_from((0, 0.5, 1)),
    fair_horizon=st.sampled_from((0, 2.0)),
    filters=st.lists(st.sampled_from([each.name for each in ELIGIBILITY]), unique=True).map(tuple)
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


@pytest.mark.parametrize(("name", "feature"), [(each.name, each.value) for each in FEATURES])
@given(world=worlds(), policy=POLICIES, seed=st.integers(0, 99))
def test_a_feature_is_a_number_of_0_to_1_wherever_the_pair_stands(name, feature, world, policy, seed):
    view = view_of(world, policy)
    values = feature(view)
    assert values.shape == (len(view),), name
    assert values.dtype == np.float32
    assert ((values >= 0) & (values <= 1)).all()
    order, other = shuffled(view, seed)
    assert feature(other).tobytes() == values[order].tobytes()


@pytest.mark.parametrize(("name", "allows"), [(each.name, each.allows) for each in ELIGIBILITY])
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


def is_open(store):
    if not store.hours:
        return all(day != local(store).date().isoformat() for day in store.closed_days)
    for back in range(3):
        day = local(store).date() - timedelta(days=back)
        opens, closes = store.hours.get(WEEKDAYS[day.weekday()], "00:00-00:00").split("-")
        begin, end = (int(t[:2]) * 60 + int(t[3:]) for t in (opens, closes))
        minute = local(store).hour * 60 + local(store).minute + back * 1440
        if begin <= minute < end and day.isoformat() not in store.closed_days:
            return True
    return False


def local(store):
    return datetime.fromtimestamp(NOW_MS / 1000, UTC) + timedelta(
        hours=-5 if store.timezone == "America/New_York" else 8
    )


def may_take(world, event, guide, store, policy):
    """Each filter over again on the events themselves, in the order of the list."""
    price_zone = getattr(event, "price_zone", None)
    home, capacity = world.homes[event_id(event)], 2 if guide.capacity is None else guide.capacity
    offline = {(p.brand, p.guide_id) for p in world.presence if p.status == "offline"}
    return {
        "active": guide.active and store.active,
        "shifts": not guide.shifts or any(span.from_ms <= NOW_MS < span.to_ms for span in guide.shifts),
        "hours": is_open(store),
        "partner_quota": home.partner_left != 0,
        "kept": not home.kept or store.kind == "hq",
        "only_owner": not getattr(event, "only_owner", False) or home.owner == guide.guide_id,
        "tier_level": (guide.level or 5) >= policy.level_min[event.tier or "prospect"],
        "reserve": event.tier == policy.tier_order[0]
        or int(guide.guide_id[1:]) % 4 < capacity - int(capacity * policy.reserve_top)
        or not policy.reserve_top,
        "book": guide.book_max is None
        or int(guide.guide_id[1:]) % 5 < guide.book_max
        or home.owner == guide.guide_id,
        "declined": guide.guide_id not in home.declined,
        "present": (guide.brand, guide.guide_id) not in offline,
        "leave": not any(span.from_ms <= NOW_MS < span.to_ms for span in guide.leave),
        "capacity": int(guide.guide_id[1:]) % 4 < capacity,
        "paused": int(guide.guide_id[1:]) % 13 != 5,
        "price_zone": bool(zones(guide, store) & ({price_zone} if price_zone else {"full", "special"})),
        "skills": all(guide.skills.get(need, 0) >= policy.skill_level_min for need in event.needs),
        "stock": not getattr(event, "in_stock", ()) or store.store_id in event.in_stock,
    }


def values_of(world, event, guide, store, policy):
    """Each feature but the distance over again on the events themselves."""
    capacity = 2 if guide.capacity is None else guide.capacity
    price_zone = getattr(event, "price_zone", None)
    home, number, value = world.homes[event_id(event)], int(guide.guide_id[1:]), event.value_fen or 0
    clock = 1 + 0.3 * len(cell_name(store.brand, store.market))
    since = NOW_MS - home.last_contact_ms
    idle_ms = max(0, NOW_MS - home.acted_ms) if home.acted_ms >= 0 else 0
    window_ms = policy.window_h * 3_600_000
    urgent = since / window_ms if home.last_contact_ms >= 0 and 0 <= since < window_ms else 0

    def beta(hits, tries, mean):
        left = 0.5 ** (number / policy.half_life_days)
        return (mean * policy.prior_strength + hits * left) / (policy.prior_strength + tries * left)

    sold = zones(guide, store)
    return {
        "skills": sum(guide.skills.get(n, 0) for n in event.needs) / (5 * len(event.needs))
        if event.needs
        else 1,
        "free_capacity": max(0, capacity - int(guide.guide_id[1:]) % 4) / capacity if capacity else 0,
        "owner": (home.owner == guide.guide_id) * 0.5 ** (idle_ms / 86_400_000 / policy.owner_half_life_days),
        "last_server": float(home.last == guide.guide_id),
        "book": 1.0
        if guide.book_max is None
        else max(0, guide.book_max - number % 5) / max(guide.book_max, 1),
        "responsiveness": beta(number % 11 // 2, number % 11, policy.response_mean),
        "conversion": beta(number % 6 // 3, number % 6, policy.conversion_mean),
        "turn": 0 if guide.weight == 0 else 1 / (1 + max(0, number % 7 * 0.4 - clock + policy.fair_horizon)),
        "store_fit": policy.kind_fit[store.kind] * (0.5 if store.store_id in home.no_slot else 1),
        "preferences": sum(n in guide.prefers for n in event.needs) / len(event.needs) if event.needs else 0,
        "value_level": 1 - value / (value + policy.value_half_fen) * (1 - ((guide.level or 5) - 1) / 9),
        "urgency": 1 - urgent * (1 - beta(number % 11 // 2, number % 11, policy.response_mean)),
        "store": float(event.store_id == store.store_id),
        "price_zone": 1.0 if price_zone is None else (price_zone in sold) / len(sold) if sold else 0,
    }


@given(worlds(), POLICIES)
def test_filters_and_features_mean_what_they_say(world, policy):
    view = view_of(world, policy)
    guides = {g.guide_id: g for g in world.guides}
    stores = {(s.brand, s.store_id): s for s in world.stores}
    masks = [each.allows(view) for each in ELIGIBILITY]
    values = {each.name: each.value(view) for each in FEATURES}
    for pair in range(len(view)):
        event = world.events[view.lead[pair]]
        guide = guides[view.roster.guide_ids[view.guide[pair]]]
        store = stores[guide.brand, guide.store_id]
        wanted = may_take(world, event, guide, store, policy)
        assert {each.name: bool(m[pair]) for each, m in zip(ELIGIBILITY, masks, strict=True)} == wanted
        told = values_of(world, event, guide, store, policy)
        assert values.keys() - told.keys() == {"distance"}
        for name, value in told.items():
            # what fades with time is looked up in steps of 0.3 %
            assert values[name][pair] == pytest.approx(value, abs=3e-3), name


def test_distance_is_one_half_at_half_distance():
    view = view_of(world(1), Policy(distance_half_km=7))
    view.km = np.array([0, 7, 21], np.float32)
    assert features.distance(view).tolist() == [1, 0.5, 0.25]


@given(worlds(), POLICIES, st.integers(1, 40))
def test_a_batch_cut_into_blocks_is_ranked_the_same(world, policy, pairs):
    roster = world.roster()
    requests = world.requests(roster)
    whole = rank(requests, roster, policy, NOW_MS)
    with mock.patch("scoring.score._PAIRS_AT_ONCE", pairs):
        cut = rank(requests, roster, policy, NOW_MS)
    for each in fields(Ranking):
        assert getattr(cut, each.name).tobytes() == getattr(whole, each.name).tobytes(), each.name


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
        reasons_ = dict.fromkeys([each.name for each in ELIGIBILITY], 0)
        eligible = {}
        pairs = np.flatnonzero(view.lead == row)
        for pair in pairs:
            guide = guides[roster.guide_ids[view.guide[pair]]]
            may = may_take(world, event, guide, stores[guide.brand, guide.store_id], policy)
            refusing = [name for name in reasons_ if not may[name] and name in policy.filters]
            if refusing:
                reasons_[refusing[0]] += 1
            else:
                eligible[int(view.guide[pair])] = float(score[pair])
        assert ranking.seen[row] == len(pairs)
        assert ranking.filtered[row].tolist() == list(reasons_.values())
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
    why = explain(reasons(ranking, requests, roster, policy, NOW_MS), policy.runners_up)
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
    policy = Policy(runners_up=2, filters=("active",))
    ranking = rank(requests, roster, policy, NOW_MS)
    row = int(np.argmax(np.diff(ranking.start)))
    first, second, third = ranking.guide_row[ranking.start[row] : ranking.start[row] + 3].tolist()
    rows = np.full(len(requests), -1, np.int32)
    rows[row] = second
    why = explain(reasons(ranking, requests, roster, policy, NOW_MS), policy.runners_up, rows)
    assert why.score[row] == ranking.score[ranking.start[row] + 1]
    assert why.runner_up[row].tolist() == [first, third]
    assert why.margin[row, 0] <= 0 <= why.margin[row, 1]
    assert (np.delete(why.runner_up, row, axis=0) == -1).all()
    assert not np.delete(why.contributions, row, axis=0).any()


def test_a_guide_kept_from_before_is_explained_where_nobody_knows_the_place():
    requests, roster = equals(n_guides=1, n_leads=1)
    requests.lat[:] = requests.lon[:] = np.nan
    ranking = rank(requests, roster, Policy(), NOW_MS)
    assert ranking.seen.tolist() == [0]
    listed = replace(ranking, start=np.array([0, 1]), guide_row=np.zeros(1, np.int32), score=np.array([0.4]))
    why = explain(reasons(listed, requests, roster, Policy(), NOW_MS), 3, np.zeros(1, np.int32))
    named = dict(zip([each.name for each in FEATURES], why.contributions[0].tolist(), strict=True))
    assert named["distance"] == 0
    assert 0 < sum(named.values()) < 1
    assert why.score[0] == np.float32(0.4)


def equals(n_guides, n_leads):
    """Guides that differ in nothing, and leads that all stand at their store."""
    store = Store(store_id="s", brand="b", version=1, lat=1, lon=1, kind="franchise", active=True)
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
    assert (explain(reasons(ranking, requests, roster, Policy(), NOW_MS), 3).winner == -1).all()


def test_needs_are_padded_on_the_right():
    roster = world(1).roster()
    lead = {"member_id": "m", "brand": "a", "occurred_at_ms": 0}
    two = columns([Lead(lead_id="1", needs=("bags", "?"), **lead), Lead(lead_id="2", **lead)], roster)
    assert two.need_tags.tolist() == [[roster.tags["bags"], -2], [NO_NEED, NO_NEED]]


@given(worlds(), POLICIES)
def test_why_not_names_the_first_filter_or_the_feature_that_cost_most(world, policy):
    roster = world.roster()
    requests = world.requests(roster)
    ranking = rank(requests, roster, policy, NOW_MS)
    view = view_of(world, policy)
    guides = {g.guide_id: g for g in world.guides}
    stores = {(s.brand, s.store_id): s for s in world.stores}
    score = scores(view)
    for row in range(min(len(requests), 2)):
        mine = np.flatnonzero(view.lead == row)
        first, end = ranking.start[row], ranking.start[row + 1]
        winner = int(ranking.guide_row[first]) if first < end else -1
        won = float(score[mine[view.guide[mine] == winner]][0]) if winner >= 0 else 0.0
        for guide in range(0, len(roster.guide_ids), 13):
            one = guides[roster.guide_ids[guide]]
            if one.brand != world.events[row].brand:
                continue
            told = why_not(requests, roster, policy, NOW_MS, lead=row, guide=guide, winner=winner)
            may = may_take(world, world.events[row], one, stores[one.brand, one.store_id], policy)
            refusing = [f.name for f in ELIGIBILITY if f.name in policy.filters and not may[f.name]]
            pair = mine[view.guide[mine] == guide]
            assert told.filter == (refusing[0] if refusing else None)
            assert told.unseen == (not refusing and not pair.size)
            if refusing or not pair.size or winner in {-1, guide}:
                assert (told.margin, told.feature) == (0, None)
                continue
            assert told.margin == pytest.approx(won - float(score[pair[0]]), abs=1e-6)
            both = replace(view, lead=np.array([row, row]), guide=np.array([guide, winner]))
            both.km = np.array([view.km[pair[0]], view.km[mine[view.guide[mine] == winner]][0]])
            costs = np.subtract(*contributions(both)[::-1])
            assert costs[[each.name for each in FEATURES].index(told.feature)] == costs.max()


def test_a_filter_costs_nothing_to_those_who_have_nothing_to_do_with_it():
    """What the stream does not tell yet changes no decision: the neutral columns are neutral."""
    made = world(11, n_stores=10, n_guides=60)
    for name, home in made.homes.items():
        made.homes[name] = Home(cell=home.cell, owner=home.owner)
    roster = build(made.stores, made.guides, made.presence, capacity_default=2)
    requests = made.requests(roster)
    late = ("partner_quota", "declined")
    with_all = rank(requests, roster, Policy(), NOW_MS)
    without = Policy(filters=tuple(name for name in Policy().filters if name not in late))
    ranking = rank(requests, roster, without, NOW_MS)
    assert with_all.guide_row.tobytes() == ranking.guide_row.tobytes()
    found = candidates(requests, roster, Policy())
    view = View(requests, roster, Policy(), NOW_MS, found.lead_row, found.guide_row, found.km)
    by_name = {each.name: each.value(view) for each in FEATURES}
    assert len(view) > 10
    weighted = np.array([guide.weight != 0 for guide in made.guides])
    number = [int(roster.guide_ids[row][1:]) for row in view.guide]
    assert np.unique(by_name["turn"][weighted[number]]).size == 1
    for name in ("last_server", "urgency", "responsiveness", "conversion"):
        assert np.unique(by_name[name]).size == 1, name

"""Retrieval looks at whom it promises to look at, anywhere on earth."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring import grid, layout
from scoring.build import build
from scoring.merge import merged
from scoring.policy import Policy
from scoring.rank import rank
from scoring.requests import columns
from scoring.retrieve import candidates, nearest_store
from tests.scoring_world import NOW_MS, REGIONS, World, world, worlds
from topics.guides import Guide
from topics.leads import Lead
from topics.stores import Store

STORES_CN = Path(__file__).parents[2] / "shared/data/stores_cn.csv"
POLICIES = st.builds(
    Policy,
    radius_km=st.sampled_from((0.5, 3.0, 30.0, 500.0)),
    candidates_min=st.sampled_from((1, 5, 20, 1000)),
)


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_a_few_are_put_among_many_as_a_stable_sort_would(many, few):
    columns_ = np.array(many, np.int64), np.array(few, np.int64)
    order = merged(*columns_)
    numbers = np.arange(len(many)), len(many) + np.arange(len(few))
    by_sort = np.argsort(np.concatenate(columns_), kind="stable")
    assert order(*numbers).tolist() == by_sort.tolist()


def km_between(lat, lon, roster, store):
    points = [np.array([x], np.float32) for x in (lat, lon)]
    return float(grid.distance_km(grid.unit(*points), np.array([0]), roster.store_xyz, np.array([store]))[0])


def expected(row, requests, roster, policy):
    """The guides that one request is to be compared with, and how far they are, one store at a time."""
    cell, named, owner = requests.cell[row], requests.store_row[row], requests.owner_row[row]
    lat, lon = requests.lat[row], requests.lon[row]
    for store in (named, roster.guide_store[owner] if owner >= 0 else -1):
        if np.isnan(lat) and store >= 0:
            lat, lon = roster.store_lat[store], roster.store_lon[store]
    if cell < 0:
        return {}
    km = {
        s: float("inf") if np.isnan(lat) else km_between(lat, lon, roster, s)
        for s in range(len(roster.store_ids))
        if roster.store_cell[s] == cell
    }
    guides = {s: [g for g in range(len(roster.guide_ids)) if roster.guide_store[g] == s] for s in km}
    stores = set()
    radius_km = min(grid.SQUARE_KM, policy.radius_km)
    while not requests.fixed_store[row]:
        stores = {s for s in km if km[s] <= radius_km}
        enough = sum(len(guides[s]) for s in stores) >= policy.candidates_min
        if radius_km == policy.radius_km or enough:
            stores |= set() if enough else {s for s in km if roster.store_kind[s] == layout.HQ}
            break
        radius_km = min(radius_km * math.sqrt(2), policy.radius_km)
    found = {g: km[s] for s in (stores | {named}) & km.keys() for g in guides[s]}
    for guide in (owner, requests.last_row[row]):
        if guide >= 0 and not requests.fixed_store[row] and roster.guide_store[guide] in km:
            found[guide] = km[roster.guide_store[guide]]
    return found


@given(worlds(), POLICIES)
def test_candidates_are_what_looking_at_every_store_finds(world, policy):
    roster = world.roster()
    requests = world.requests(roster)
    found = candidates(requests, roster, policy)
    assert (np.diff(found.lead_row) >= 0).all()
    for row in range(len(requests)):
        mine = found.lead_row == row
        guides = found.guide_row[mine].tolist()
        assert len(set(guides)) == len(guides)
        pairs = dict(zip(guides, found.km[mine].tolist(), strict=True))
        assert pairs == expected(row, requests, roster, policy)


@given(worlds(), POLICIES)
def test_nearest_store_is_what_looking_at_every_store_finds(world, policy):
    roster = world.roster()
    requests = world.requests(roster)
    for row, nearest in enumerate(nearest_store(requests, roster, policy).tolist()):
        open_stores = [
            (km_between(requests.lat[row], requests.lon[row], roster, s), roster.store_hash[s], s)
            for s in range(len(roster.store_ids))
            if roster.store_brand[s] == requests.brand[row] and roster.store_active[s]
        ]
        inside = [entry for entry in open_stores if entry[0] <= policy.radius_km]
        assert nearest == (min(inside)[2] if inside else -1)


@given(st.sampled_from(sorted(REGIONS)), st.integers(0, 2**32 - 1), st.floats(0.1, 500))
def test_runs_cover_the_disc_without_overlap(region, seed, radius_km):
    stores = world(seed, region, n_stores=200, n_guides=0, n_events=0).stores
    lat, lon = (np.array([getattr(s, name) for s in stores], np.float32) for name in ("lat", "lon"))
    lat[:4], lon[:4] = (90, -90, 0, 0), (0, 0, 180, -180)
    xyz, square = grid.unit(lat, lon), grid.squares(lat, lon)
    assert ((square >= 0) & (square < grid.SQUARES)).all()
    place, first, last = grid.covering(lat.astype(np.float64), lon.astype(np.float64), radius_km)
    for centre in range(8):
        mine = place == centre
        hits = ((first[mine, None] <= square) & (square <= last[mine, None])).sum(axis=0)
        assert (hits <= 1).all()
        km = grid.distance_km(xyz, np.full(lat.size, centre), xyz, np.arange(lat.size))
        assert (hits[km <= np.float32(radius_km)] == 1).all()


@given(st.sampled_from(sorted(REGIONS)), st.integers(0, 2**32 - 1))
def test_distance_agrees_with_the_way_over_ground(region, seed):
    stores = world(seed, region, n_stores=40, n_guides=0, n_events=0).stores
    lat, lon = (np.array([getattr(s, name) for s in stores]) for name in ("lat", "lon"))
    xyz = grid.unit(lat.astype(np.float32), lon.astype(np.float32))
    km = grid.distance_km(xyz, np.zeros(lat.size, np.int64), xyz, np.arange(lat.size))
    phi, lam = np.radians(lat), np.radians(lon)
    hav = np.sin((phi - phi[0]) / 2) ** 2 + np.cos(phi) * np.cos(phi[0]) * np.sin((lam - lam[0]) / 2) ** 2
    way = 2 * grid.EARTH_KM * np.arcsin(np.sqrt(np.minimum(hav, 1)))
    near = way < 2000
    assert np.allclose(km[near], way[near], rtol=0.005, atol=0.005)


def test_a_tie_for_the_nearest_store_does_not_go_by_row():
    twins = [
        Store(store_id=i, brand="b", version=1, lat=1, lon=1, kind="hq", active=True) for i in ("x", "y", "z")
    ]
    lead = Lead(lead_id="l", member_id="m", brand="b", occurred_at_ms=0, lat=1, lon=1)
    winners = set()
    for stores in (twins, twins[::-1], [twins[1], twins[2], twins[0]]):
        roster = build(stores, [], [], capacity_default=1)
        winners.add(roster.store_ids[nearest_store(columns([lead], roster), roster, Policy())[0]])
    assert len(winners) == 1


@pytest.fixture(scope="module")
def china():
    if not STORES_CN.exists():
        pytest.skip("the directory of real stores is not beside this checkout")
    with STORES_CN.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    stores = [
        Store(
            store_id=row["store_id"],
            brand="b",
            version=1,
            lat=float(row["lat"]),
            lon=float(row["lon"]),
            kind="full_price",
            active=True,
            market=row["city"],
        )
        for row in rows
    ]
    guides = [
        Guide(guide_id=f"g{i}", brand="b", version=1, store_id=stores[i // 3].store_id, active=True)
        for i in range(3 * len(stores))
    ]
    rng = np.random.default_rng(7)
    homes = [stores[i] for i in rng.integers(0, len(stores), 200)]
    leads = [
        Lead(
            lead_id=f"l{i}",
            member_id=f"m{i}",
            brand="b",
            occurred_at_ms=0,
            lat=s.lat + rng.normal(0, 0.02),
            lon=s.lon + rng.normal(0, 0.02),
        )
        for i, s in enumerate(homes)
    ]
    return World(stores, guides, [], leads, {})


def test_real_stores(china):
    """Every lead near a real store is ranked, in the cell of its nearest store."""
    policy = Policy()
    roster = build(china.stores, china.guides, [], capacity_default=20)
    requests = columns(china.events, roster)
    nearest = nearest_store(requests, roster, policy)
    assert (nearest >= 0).all()
    requests.cell[:] = roster.store_cell[nearest]
    found = candidates(requests, roster, policy)
    for row in range(0, len(requests), 50):
        mine = found.lead_row == row
        pairs = dict(zip(found.guide_row[mine].tolist(), found.km[mine].tolist(), strict=True))
        assert pairs == expected(row, requests, roster, policy)
    ranking = rank(requests, roster, policy, NOW_MS)
    assert (np.diff(ranking.start) > 0).all()
    cells = roster.store_cell[roster.guide_store[ranking.guide_row]]
    assert (cells == np.repeat(requests.cell, np.diff(ranking.start))).all()

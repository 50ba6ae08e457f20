"""A nation of stores and guides as decoded columns, and leads for it; the same for the same seed."""

from __future__ import annotations

import numpy as np

from scoring.arrays import F64s
from scoring.build import assemble
from scoring.layout import GuideTable, StoreTable, placed
from scoring.opening import WEEKDAYS, east_eight
from scoring.requests import Requests, columns
from scoring.roster import BOOK_UNLIMITED, Roster
from topics.leads import Lead

NOW_MS = 1_700_000_000_000 + 4 * 3_600_000  # ten in the morning in Shanghai
TAGS = ("suits", "shoes", "bags", "watches")
KM_PER_DEG = 111.195
GUIDES_PER_STORE = 2
#: Shares of guides who work, who are there, whose book has no limit.
ACTIVE, PRESENT, UNLIMITED = 0.97, 0.9, 0.5


def tables(n_stores: int, place: F64s, rng: np.random.Generator) -> tuple[Roster, StoreTable, GuideTable]:
    """Columns of stores at ``place`` [2, n] (degrees) in one brand and cell, and of their guides."""
    n = n_stores * GUIDES_PER_STORE
    roster = Roster(capacity_default=20, brands={"b": 0}, cells=["b/c"], cell_rows={"b/c": 0})
    roster.tags = {tag: column for column, tag in enumerate(TAGS)}
    roster.zone_names, roster.zones = {None: 0}, [east_eight(None)]
    lat, lon = place.astype(np.float32)
    stores = StoreTable(
        ids=np.array([f"store-{i:06d}".encode() for i in range(n_stores)]),
        brands=["b"] * n_stores,
        columns=placed(np.zeros(n_stores, np.int32), lat, lon)
        | {
            "store_cell": np.zeros(n_stores, np.int32),
            "store_zones": np.full(n_stores, 3, np.uint8),
            "store_active": np.ones(n_stores, np.bool_),
            "store_opens": np.full((n_stores, len(WEEKDAYS)), 8 * 60, np.int16),
            "store_closes": np.full((n_stores, len(WEEKDAYS)), 22 * 60, np.int16),
        },
    )
    home = rng.permutation(np.repeat(np.arange(n_stores), GUIDES_PER_STORE))
    guides = GuideTable(
        ids=np.array([f"guide-{i:07d}".encode() for i in range(n)]),
        brands=["b"] * n,
        store_ids=stores.ids[home],
        columns={
            "guide_works": rng.random(n) < ACTIVE,
            "guide_present": rng.random(n) < PRESENT,
            "guide_capacity": rng.integers(5, 40, n).astype(np.int32),
            "guide_load": rng.integers(0, 25, n).astype(np.int32),
            "guide_book_max": np.where(rng.random(n) < UNLIMITED, BOOK_UNLIMITED, 500).astype(np.int32),
            "guide_book": rng.integers(0, 480, n).astype(np.int32),
            "guide_level": rng.integers(1, 11, n).astype(np.uint8),
            "guide_sells": np.full(n, 3, np.uint8),
            "guide_step": np.full(n, 1_000_000, np.int32),
            "guide_turn": rng.integers(0, 3_000_000, n),
            "guide_offered": rng.integers(0, 50, n).astype(np.float32),
            "guide_answered": rng.integers(0, 20, n).astype(np.float32),
            "guide_closed": rng.integers(0, 50, n).astype(np.float32),
            "guide_won": rng.integers(0, 10, n).astype(np.float32),
            "guide_seen_ms": NOW_MS - rng.integers(0, 10**10, n),
        },
        skill_guide=np.repeat(np.arange(n, dtype=np.int32), 2),
        skill_tag=rng.integers(0, len(TAGS), 2 * n).astype(np.int16),
        skill_bits=rng.integers(1, 14, 2 * n).astype(np.uint8) & np.uint8(13),
    )
    return roster, stores, guides


def city(candidates: int, radius_km: float, size_km: float, rng: np.random.Generator) -> Roster:
    """A city of ``size_km`` squared whose discs of ``radius_km`` hold about so many guides."""
    n = int(candidates / (np.pi * radius_km**2) / GUIDES_PER_STORE * size_km**2)
    place = rng.uniform(-size_km / 2, size_km / 2, (2, n)) / KM_PER_DEG
    return assemble(*tables(n, place, rng))


def towns(n_stores: int, rng: np.random.Generator) -> F64s:
    """Places of stores in a nation: two thousand towns whose sizes fall like those of real ones."""
    share = 1 / np.arange(1, 2001)
    town = rng.choice(2000, n_stores, p=share / share.sum())
    middle = np.stack((rng.uniform(20, 50, 2000), rng.uniform(80, 130, 2000)))
    spread_km = 3 + 40 * np.sqrt(share)
    place: F64s = middle[:, town] + rng.normal(0, 1, (2, n_stores)) * spread_km[town] / KM_PER_DEG
    return place


def leads(n: int, place: F64s, roster: Roster, rng: np.random.Generator) -> Requests:
    """Leads near ``place`` [2, n]: half with a need, a third names a store, a fourth is owned."""
    names = roster.store_ids
    made = [
        Lead(
            lead_id=f"lead-{i}",
            member_id=f"m{i}",
            brand="b",
            occurred_at_ms=NOW_MS - 5,
            lat=lat,
            lon=lon,
            needs=TAGS[:1] if i % 2 else (),
            price_zone="full" if i % 2 else None,
            tier=("vip", "repeat", "new", "prospect")[i % 4],
            value_fen=int(rng.integers(0, 10**6)),
            store_id=names[int(rng.integers(len(names)))] if i % 3 == 0 else None,
        )
        for i, (lat, lon) in enumerate(place.T.tolist())
    ]
    requests = columns(made, roster)
    requests.cell[:] = 0
    requests.owner_row[::4] = rng.integers(0, len(roster.guide_ids), requests.owner_row[::4].size)
    requests.last_contact_ms[:] = NOW_MS - rng.integers(0, 10**9, n)
    return requests

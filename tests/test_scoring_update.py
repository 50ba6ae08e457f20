"""Changes in place lead to what a build from scratch would give, and take nothing from those who read."""

from __future__ import annotations

import time
from dataclasses import fields

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.build import build, compact
from scoring.layout import guide_table, store_table
from scoring.policy import Policy
from scoring.rank import rank
from scoring.roster import Roster
from scoring.update import put_guides, put_stores, remove_guides, remove_stores
from tests.scoring_world import NOW_MS, TAGS, clocks, event_id, world
from topics.guides import Guide
from topics.stores import Store


def told(roster):
    """Load and the like by the guide's own number, as `World.roster` does it."""
    rows = roster.guide_rows()
    number = np.array([int(name[1:]) for name in roster.guide_ids.take(rows)], np.int64)
    roster.guide_load[rows] = number % 4
    roster.guide_turn[rows] = number % 7 * 400_000
    roster.cell_clock[:] = 2_000_000
    return roster


def decisions(made, roster, policy):
    requests = made.requests(roster)
    ranking = rank(requests, roster, policy, NOW_MS)
    return {
        event_id(event): (
            roster.guide_ids.take(ranking.guide_row[ranking.start[row] : ranking.start[row + 1]]),
            ranking.score[ranking.start[row] : ranking.start[row + 1]].tobytes(),
            int(ranking.seen[row]),
            ranking.filtered[row].tolist(),
        )
        for row, event in enumerate(made.events)
    }


def check(roster):
    """What must hold of any roster."""
    assert (np.diff(roster.square_key) >= 0).all()
    assert (roster.store_key[roster.square_store] == roster.square_key).all()
    counts = roster.store_guides_count[roster.square_store]
    assert roster.square_worth.tolist() == [0, *np.cumsum(counts)]
    rows = roster.guide_rows()
    assert np.unique(rows).size == rows.size == roster.guide_count
    cells = np.bincount(roster.store_cell[roster.guide_store[rows]], minlength=roster.cell_guides.size)
    assert roster.cell_guides.tolist() == cells.tolist()
    assert roster.cell_guides[-1] == 0
    assert not roster.guide_skills[rows][:, len(roster.tags) :].any()
    brands = list(roster.brands)
    for row in rows.tolist():
        store = int(roster.guide_store[row])
        brand = brands[roster.store_brand[store]]
        assert roster.guide_row(brand, roster.guide_ids[row]) == row
        assert roster.store_row(brand, roster.store_ids[store]) == store


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.sampled_from(("city", "date line", "everywhere")),
    st.booleans(),
)
def test_changes_in_place_give_what_a_new_build_gives(seed, steps, region, compacts):
    """Guides and stores come, change, move and go, in batches; then every decision is the same to the bit."""
    rng = np.random.default_rng(seed)
    made, other = (world(s, region, n_stores=12, n_guides=40, n_events=12) for s in (seed, seed + 1))
    keep = rng.integers(0, 2, 40).astype(bool)
    before = [g for g, kept in zip(other.guides, keep, strict=True) if kept]
    roster = told(build(other.stores[:8], before, [], capacity_default=2, zones=clocks))
    offline = {(p.brand, p.guide_id) for p in made.presence if p.status == "offline"}
    known = {(store.brand, store.store_id) for store in made.stores}
    stores = [made.stores[i] for i in rng.permutation(12)]
    # a store comes before its guides, as the caller sees to
    for batch in np.array_split(np.arange(12), steps):
        put_stores(roster, store_table([stores[i] for i in batch], roster, clocks))
    guides = [made.guides[i] for i in rng.permutation(40)]
    for batch in np.array_split(np.arange(40), steps):
        some = [guides[i] for i in batch]
        absent = [(g.brand, g.guide_id) in offline for g in some]
        put_guides(roster, guide_table(some, absent, roster))
        check(roster)
    remove_guides(
        roster,
        [
            (brand, f"g{i}")
            for i in range(40)
            for brand in "ab"
            if (brand, f"g{i}") not in {(g.brand, g.guide_id) for g in made.guides}
        ],
    )
    remove_stores(roster, [(s.brand, s.store_id) for s in other.stores if (s.brand, s.store_id) not in known])
    check(roster)
    if compacts:
        roster = compact(roster)
        assert roster.fragmentation == 0
        check(roster)
    scratch = build(made.stores, made.guides, made.presence, capacity_default=2, zones=clocks)
    policy = Policy(
        filters=("active", "present", "capacity", "skills"), candidates_min=int(rng.integers(1, 60))
    )
    assert decisions(made, told(roster), policy) == decisions(made, told(scratch), policy)
    full = Policy(skill_level_min=2)
    assert decisions(made, told(roster), full) == decisions(made, told(scratch), full)


def test_rows_in_the_hands_of_a_batch_stay_true():
    """A guide moves, another comes, a third goes: the rows of before still name the same people."""
    made = world(5)
    roster = told(build(made.stores, made.guides, made.presence, capacity_default=2))
    rows = roster.guide_rows()
    names = roster.guide_ids.take(rows)
    stores = roster.guide_store[rows].copy()
    homes = sorted({(s.brand, s.store_id) for s in made.stores})
    for number, guide in enumerate(made.guides[:30]):
        brand, store_id = homes[number % len(homes)]
        moved = Guide(guide_id=guide.guide_id, brand=brand, version=2, store_id=store_id, active=True)
        put_guides(roster, guide_table([moved], [False], roster))
    remove_guides(roster, [(g.brand, g.guide_id) for g in made.guides[30:40]])
    put_stores(roster, store_table([made.stores[0]], roster, clocks))
    assert roster.guide_ids.take(rows) == names
    assert (roster.guide_store[rows] == stores).all()
    assert roster.fragmentation > 0


def test_numbers_from_elsewhere_stay_with_a_guide_within_the_cell_and_end_with_it():
    stores = [
        Store(store_id=name, brand="b", version=1, lat=1, lon=1, kind="hq", active=True, market=market)
        for name, market in (("s", "x"), ("t", "x"), ("u", "y"))
    ]
    roster = build(stores, [guide("s")], [], capacity_default=1)
    row = roster.guide_row("b", "g")
    roster.guide_load[row], roster.guide_turn[row], roster.guide_offered[row] = 3, 7, 5
    seen = {}
    for store_id in "tu":
        put_guides(roster, guide_table([guide(store_id)], [False], roster))
        row = roster.guide_row("b", "g")
        seen[store_id] = (
            int(roster.guide_load[row]),
            int(roster.guide_turn[row]),
            int(roster.guide_offered[row]),
        )
    assert seen == {"t": (3, 7, 5), "u": (0, 0, 0)}


def test_tags_beyond_the_first_columns_are_learnt_in_place():
    stores = [Store(store_id="s", brand="b", version=1, lat=1, lon=1, kind="hq", active=True)]
    roster = build(stores, [guide("s", skills=dict.fromkeys(TAGS, 2))], [], capacity_default=1)
    many = {f"t{i}": 1 + i % 5 for i in range(20)}
    put_guides(roster, guide_table([guide("s", skills=many)], [False], roster))
    row = roster.guide_row("b", "g")
    levels = {tag: int(roster.guide_skills[row, column]) for tag, column in roster.tags.items()}
    assert levels == many | dict.fromkeys(TAGS, 0)


def test_a_changed_guide_costs_what_it_touches():
    """Ten times the roster does not make ten times the work; the bench holds the milliseconds."""
    took = {}
    for n in (2_000, 20_000):
        stores = [
            Store(store_id=f"s{i}", brand="b", version=1, lat=i / n, lon=1, kind="outlet", active=True)
            for i in range(n // 2)
        ]
        guides = [guide(f"s{i // 2}", f"g{i}") for i in range(n)]
        roster = build(stores, guides, [], capacity_default=1)
        times = []
        for i in range(60):
            table = guide_table([guide(f"s{i * 7 % (n // 2)}", f"g{i}")], [False], roster)
            begin = time.thread_time_ns()
            put_guides(roster, table)
            times.append(time.thread_time_ns() - begin)
        took[n] = float(np.median(times))
    assert took[20_000] < 5 * took[2_000]


def guide(store_id, guide_id="g", **fields_):
    return Guide(guide_id=guide_id, brand="b", version=1, store_id=store_id, active=True, **fields_)


def test_every_column_is_told_apart_from_what_lies_behind_it():
    """A column that somebody adds must be of stores or of guides, or it would not follow a row that moves."""
    loose = {each.name for each in fields(Roster) if not each.name.startswith(("store_", "guide_"))}
    assert loose == {
        "capacity_default",
        "brands",
        "cells",
        "cell_rows",
        "cell_guides",
        "cell_clock",
        "tags",
        "zone_names",
        "zones",
        "square_key",
        "square_store",
        "square_worth",
        "hq_stores",
        "leave",
        "shifts",
        "closed_days",
    }

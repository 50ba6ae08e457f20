"""A roster laid out in order: stores by brand and grid strip, guides by store."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from scoring.arrays import Rows
from scoring.columns import resize, write, write_skills
from scoring.layout import HQ, GuideTable, StoreTable, guide_table, store_table
from scoring.names import Names
from scoring.opening import Zones, east_eight
from scoring.roster import GUIDE_COLUMNS, STORE_COLUMNS, Roster
from topics.guides import Guide, Presence
from topics.stores import Store


def build(
    stores: Iterable[Store],
    guides: Iterable[Guide],
    presence: Iterable[Presence],
    *,
    capacity_default: int,
    zones: Zones = east_eight,
) -> Roster:
    """Lay out stores and guides of any brands; each identity is given at most once.

    A guide without a capacity has ``capacity_default``, one of a store that is not given is left out.
    """
    roster = Roster(capacity_default=capacity_default)
    guides = list(guides)
    offline = {(p.brand, p.guide_id) for p in presence if p.status == "offline"}
    absent = [(guide.brand, guide.guide_id) in offline for guide in guides]
    return assemble(roster, store_table(list(stores), roster, zones), guide_table(guides, absent, roster))


def assemble(roster: Roster, stores: StoreTable, guides: GuideTable) -> Roster:
    """Lay out decoded columns, whose brands, cells, time zones and tags an empty roster has numbered."""
    n_stores, n_guides = stores.ids.size, guides.ids.size
    rows = np.arange(n_stores, dtype=np.int32)
    resize(roster, STORE_COLUMNS, 0, n_stores + 1)  # a store of -1 is the last row: nothing
    write(roster, stores.columns, rows)
    if stores.closed:
        roster.store_closed_first[rows], roster.store_closed_count[rows] = roster.closed_days.append(
            stores.closed
        )
    order = np.argsort(roster.store_key[:n_stores], kind="stable").astype(np.int32)
    codes: dict[str, int] = {}
    brand = np.array([codes.setdefault(name, len(codes)) for name in stores.brands], np.int32)
    guide_brand = np.array([codes.setdefault(name, len(codes)) for name in guides.brands], np.int32)
    roster.store_ids = Names(stores.ids, list(codes), brand, order)
    store = roster.store_ids.rows_of(guides.store_ids, list(codes), guide_brand)
    rows = np.arange(n_guides, dtype=np.int32)
    resize(roster, GUIDE_COLUMNS, 0, n_guides + 1)
    write(roster, guides.columns | {"guide_store": store}, rows)
    write_skills(roster, guides, rows)
    for name, calendar, runs in (
        ("leave", roster.leave, guides.leave),
        ("shift", roster.shifts, guides.shifts),
    ):
        if runs:
            first, count = calendar.append(runs)
            write(roster, {f"guide_{name}_first": first, f"guide_{name}_count": count}, rows)
    roster.guide_active[rows] = roster.guide_works[rows] & roster.store_active[store] & (store >= 0)
    roster.guide_zones[rows] = roster.guide_sells[rows] & roster.store_zones[store]
    roster.guide_ids = Names(guides.ids, list(codes), guide_brand, rows[:0])
    position = np.full(n_stores + 1, -1, np.int32)
    position[order] = np.arange(n_stores)
    by_store = np.argsort(position[store], kind="stable")
    return _laid_out(roster, order, by_store[np.count_nonzero(store < 0) :])


def compact(roster: Roster) -> Roster:
    """The same stores and guides without the rows that were left behind; all numbers of rows change.

    Reads its argument only, and takes most of its time in numpy: a caller may run it in a thread, if changes
    that come meanwhile wait, or are given to both.
    """
    return _laid_out(roster, roster.square_store, roster.guide_rows())


def _laid_out(old: Roster, stores: Rows, guides: Rows) -> Roster:
    """A roster of these rows, in this order: stores ascend by key, guides go by store."""
    shared = ("brands", "cells", "cell_rows", "cell_guides", "cell_clock", "tags", "zone_names", "zones")
    new = Roster(capacity_default=old.capacity_default, **{name: getattr(old, name) for name in shared})
    for names, rows in ((STORE_COLUMNS, stores), (GUIDE_COLUMNS, guides)):
        for name in names:
            column = getattr(old, name)
            setattr(new, name, np.asarray(column[rows], order="F" if column.ndim > 1 else "C"))
    new_row = np.full(len(old.store_ids), -1, np.int32)
    new_row[stores] = np.arange(stores.size)
    new.guide_store = new_row[old.guide_store[guides]]
    new.store_guides_count = np.bincount(new.guide_store, minlength=stores.size).astype(np.int32)
    worth = np.concatenate(([0], np.cumsum(new.store_guides_count)))
    new.square_worth = worth.astype(np.int32)
    new.store_guides_start = new.square_worth[:-1].copy()
    new.square_key, new.square_store = new.store_key, np.arange(stores.size, dtype=np.int32)
    new.hq_stores = np.flatnonzero(new.store_kind == HQ).astype(np.int32)
    new.cell_guides = np.bincount(new.store_cell, new.store_guides_count, old.cell_guides.size).astype(
        np.int64
    )
    new.leave, new.guide_leave_first = old.leave.gather(new.guide_leave_first, new.guide_leave_count)
    new.shifts, new.guide_shift_first = old.shifts.gather(new.guide_shift_first, new.guide_shift_count)
    new.closed_days, new.store_closed_first = old.closed_days.gather(
        new.store_closed_first, new.store_closed_count
    )
    brands = list(old.brands)
    new.store_ids = Names(old.store_ids.bytes_of(stores), brands, new.store_brand, new.square_store)
    guide_brand = new.store_brand[new.guide_store] if guides.size else new.guide_store
    new.guide_ids = Names(
        old.guide_ids.bytes_of(guides), brands, guide_brand, np.arange(guides.size, dtype=np.int32)
    )
    return new

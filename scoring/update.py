"""Changes to a roster in place: each costs what it touches, not what there is.

What keeps its store is overwritten where it stands. A store whose guides come or go has its run of guides
written anew at the end of the columns; the old rows stay behind, true to what they were, until
`build.compact`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scoring.arrays import I32s, I64s, Rows, spans
from scoring.calendar import Calendar
from scoring.columns import resize, write, write_skills
from scoring.layout import HQ, GuideTable, Spans, StoreTable
from scoring.roster import GUIDE_COLUMNS, STORE_COLUMNS, Roster

#: More changed stores than this, and all sums are made anew instead of shifted one by one.
_SHIFTS_MAX = 16
#: What is not in the event: it stays with the guide as long as the guide stays in the cell.
_OF_THE_CELL = (
    "guide_load",
    "guide_turn",
    "guide_answered",
    "guide_offered",
    "guide_won",
    "guide_closed",
    "guide_seen_ms",
    "guide_paused_ms",
)


def put_stores(roster: Roster, table: StoreTable) -> None:
    """Take over new or changed stores; each at most once."""
    row = roster.store_ids.rows(table.brands, _texts(table.ids))
    known = row[row >= 0]
    old_key, old_cell = roster.store_key[known], roster.store_cell[known]
    new = np.flatnonzero(row < 0)
    row[new] = len(roster.store_ids) + np.arange(new.size)
    resize(roster, STORE_COLUMNS, len(roster.store_ids), new.size)
    write(roster, table.columns, row)
    roster.store_closed_first[row], roster.store_closed_count[row] = _spans(
        roster.closed_days, table.closed, row
    )
    if new.size:
        brands = [table.brands[number] for number in new.tolist()]
        roster.store_ids.append(table.ids[new], brands, row[new])
    moved = known[roster.store_key[known] != old_key]
    if moved.size or new.size:
        _reindex(roster, moved, np.concatenate((moved, row[new])))
    roster.hq_stores = roster.square_store[roster.store_kind[roster.square_store] == HQ]
    _within_store(roster, _guides_of(roster, known))
    count = roster.store_guides_count[known]
    np.subtract.at(roster.cell_guides, old_cell, count)
    np.add.at(roster.cell_guides, roster.store_cell[known], count)
    elsewhere = _guides_of(roster, known[roster.store_cell[known] != old_cell])
    for name in _OF_THE_CELL:
        getattr(roster, name)[elsewhere] = 0


def remove_stores(roster: Roster, names: Sequence[tuple[str, str]]) -> list[str]:
    """Take away stores by brand and id and their guides, who come back as ``brand/guide``."""
    rows = np.array([row for name in names if (row := roster.store_row(*name)) >= 0], np.int32)
    guides = _guides_of(roster, rows)
    brands = list(roster.brands)
    owner = [brands[number] for number in roster.store_brand[roster.guide_store[guides]].tolist()]
    gone = list(zip(owner, roster.guide_ids.take(guides), strict=True))
    remove_guides(roster, gone)
    for brand, store_id in names:
        roster.store_ids.remove(brand, store_id)
    _reindex(roster, rows, rows[:0])
    roster.hq_stores = roster.hq_stores[~np.isin(roster.hq_stores, rows)]
    return [f"{brand}/{guide_id}" for brand, guide_id in gone]


def put_guides(roster: Roster, table: GuideTable) -> None:
    """Take over new or changed guides, each at most once; one of an unknown store is nobody's."""
    row = roster.guide_ids.rows(table.brands, _texts(table.ids))
    store = roster.store_ids.rows(table.brands, _texts(table.store_ids))
    old = row.copy()
    held = np.full(row.size, -1, np.int32)
    held[row >= 0] = roster.guide_store[row[row >= 0]]
    moves = np.flatnonzero(held != store)
    if moves.size:
        _rewrite_runs(roster, table, moves, old, store)
        # who stays may have a new row too, where others of the store came or went
        row = roster.guide_ids.rows(table.brands, _texts(table.ids))
    kept = np.flatnonzero(row >= 0)
    rows = row[kept]
    write(roster, {name: column[kept] for name, column in table.columns.items()}, rows)
    write_skills(roster, table, row)
    for name, calendar, runs in (
        ("guide_leave", roster.leave, table.leave),
        ("guide_shift", roster.shifts, table.shifts),
    ):
        first, count = _spans(calendar, [runs[number] for number in kept.tolist()] if runs else (), rows)
        getattr(roster, f"{name}_first")[rows] = first
        getattr(roster, f"{name}_count")[rows] = count
    _within_store(roster, rows)


def remove_guides(roster: Roster, names: Sequence[tuple[str, str]]) -> None:
    """Take away guides by brand and id."""
    brands, ids = [brand for brand, _ in names], [guide_id for _, guide_id in names]
    old = roster.guide_ids.rows(brands, ids)
    if not (old >= 0).any():
        return
    ids_ = np.array([name.encode() for name in ids], "S")
    gone = GuideTable(ids=ids_, brands=brands, store_ids=ids_, columns={})
    _rewrite_runs(roster, gone, np.flatnonzero(old >= 0), old, np.full(old.size, -1, np.int32))


def _rewrite_runs(roster: Roster, table: GuideTable, moves: Rows, old: I32s, store: I32s) -> None:
    """Write the runs of all stores that guides leave or come to at the end of the columns."""
    leaving, coming = moves[old[moves] >= 0], moves[store[moves] >= 0]
    left = roster.guide_store[old[leaving]]
    stores = np.unique(np.concatenate((left, store[coming])))
    members = _guides_of(roster, stores)
    members = members[~np.isin(members, old[leaving])]
    source: Rows = np.concatenate((members, old[coming]))
    at = np.concatenate((roster.guide_store[members], store[coming]))
    ids = np.concatenate((roster.guide_ids.bytes_of(members), table.ids[coming]))
    order = np.argsort(at, kind="stable")
    source, at, ids = source[order], at[order], ids[order]
    rows = len(roster.guide_ids) + np.arange(source.size)
    there = np.flatnonzero(source >= 0)
    resize(roster, GUIDE_COLUMNS, len(roster.guide_ids), source.size)
    for name in GUIDE_COLUMNS:
        column = getattr(roster, name)
        column[rows[there]] = column[source[there]]
    elsewhere = there[roster.store_cell[roster.guide_store[source[there]]] != roster.store_cell[at[there]]]
    for name in _OF_THE_CELL:
        getattr(roster, name)[rows[elsewhere]] = 0
    # what is left behind is nobody's load
    roster.guide_load[source[there]] = 0
    roster.guide_load[old[leaving]] = 0
    roster.guide_store[rows] = at
    brands = list(roster.brands)
    owner = [brands[number] for number in roster.store_brand[at].tolist()]
    for number in leaving.tolist():
        roster.guide_ids.remove(table.brands[number], table.ids[number].decode())
    roster.guide_ids.append(ids, owner, rows)
    before = roster.store_guides_count[stores]
    count = np.bincount(np.searchsorted(stores, at), minlength=stores.size).astype(np.int32)
    roster.store_guides_start[stores] = rows[0] + np.cumsum(count) - count if rows.size else 0
    roster.store_guides_count[stores] = count
    np.add.at(roster.cell_guides, roster.store_cell[stores], count - before)
    _shift_worth(roster, stores, count - before)


def _shift_worth(roster: Roster, stores: Rows, change: I32s) -> None:
    """Keep the sums over the index true after these stores' counts have changed."""
    if stores.size > _SHIFTS_MAX:
        _sum_worth(roster)
        return
    for store, more in zip(stores.tolist(), change.tolist(), strict=True):
        if more:
            roster.square_worth[_position(roster, store) + 1 :] += np.int32(more)


def _sum_worth(roster: Roster) -> None:
    count = roster.store_guides_count[roster.square_store]
    roster.square_worth = np.concatenate(([0], np.cumsum(count))).astype(np.int32)


def _position(roster: Roster, store: int) -> int:
    key = roster.store_key[store]
    first = int(np.searchsorted(roster.square_key, key))
    last = int(np.searchsorted(roster.square_key, key, side="right"))
    return first + int(np.flatnonzero(roster.square_store[first:last] == store)[0])


def _reindex(roster: Roster, gone: Rows, come: Rows) -> None:
    """Take stores out of the index and put stores in, by their present keys."""
    kept = ~np.isin(roster.square_store, gone)
    key, store = roster.square_key[kept], roster.square_store[kept]
    come = come[np.argsort(roster.store_key[come], kind="stable")]
    at = np.searchsorted(key, roster.store_key[come])
    roster.square_key = np.insert(key, at, roster.store_key[come])
    roster.square_store = np.insert(store, at, come).astype(np.int32)
    _sum_worth(roster)


def _within_store(roster: Roster, guides: Rows) -> None:
    """What a guide may do hangs on the store."""
    store = roster.guide_store[guides]
    roster.guide_active[guides] = roster.guide_works[guides] & roster.store_active[store]
    roster.guide_zones[guides] = roster.guide_sells[guides] & roster.store_zones[store]


def _guides_of(roster: Roster, stores: Rows) -> I64s:
    return spans(roster.store_guides_start[stores].astype(np.int64), roster.store_guides_count[stores])


def _spans(calendar: Calendar, runs: Spans, rows: Rows) -> tuple[Rows, Rows]:
    return calendar.append(runs) if runs else (np.zeros(rows.size, np.int32), np.zeros(rows.size, np.int32))


def _texts(ids: np.ndarray[tuple[int], np.dtype[np.bytes_]]) -> list[str]:
    return [name.decode() for name in ids.tolist()]

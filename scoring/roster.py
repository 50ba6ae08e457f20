"""Stores and guides as columns: a struct of arrays that a whole batch is scored against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoring.arrays import Bools, F32s, I32s, I64s, Rows, U8s, U32s
from scoring.layout import guide_columns, store_columns
from topics.guides import Guide, Presence
from topics.stores import Store


@dataclass(slots=True, eq=False)
class Roster:
    """Stores sorted by (brand, grid square); guides sorted by store, so that a store's guides are one run."""

    brands: dict[str, int]  #: brand to its number
    cells: list[str]  #: names of the cells, see `layout.cell_name`
    cell_guides: I64s  #: [cells + 1] how many guides each cell has; the last is of no cell: 0
    tags: dict[str, int]  #: skill to its column in ``guide_skills``

    store_ids: list[str]
    store_key: I64s  #: brand number x grid.SQUARES + square, ascending
    store_lat: F32s  #: degrees
    store_lon: F32s  #: degrees
    store_xyz: F32s  #: [3, stores] the same place on the unit sphere
    store_brand: I32s
    store_cell: I32s  #: index into ``cells``
    store_zones: U8s  #: bit 0 full price, bit 1 special price
    store_active: Bools
    store_hash: U32s  #: of brand and id, for ties
    store_guides_start: I64s  #: [stores + 1] where each store's guides begin

    guide_ids: list[str]
    guide_store: I32s  #: row of the store
    guide_active: Bools  #: the guide is, and the store is
    guide_present: Bools  #: not known to be offline
    guide_capacity: I32s  #: open leads at once
    guide_load: I32s  #: open leads now, set from outside
    guide_zones: U8s  #: price zones sold, within the store's
    guide_skills: npt.NDArray[np.int8]  #: [guides, tags + 1] levels 0..5; the last column is of no tag: all 0
    guide_hash: U32s  #: of brand and id, for ties

    leave_guide: I32s  #: rows of guides, one per span of leave
    leave_from_ms: I64s
    leave_to_ms: I64s

    cell_rows: dict[str, int]  #: name of a cell to its index
    store_rows: dict[str, dict[str, int]]  #: brand to store id to row
    guide_rows: dict[str, dict[str, int]]  #: brand to guide id to row

    def store_row(self, brand: str, store_id: str) -> int:
        """The row of a store, -1 if unknown."""
        return self.store_rows.get(brand, {}).get(store_id, -1)

    def guide_row(self, brand: str, guide_id: str) -> int:
        """The row of a guide, -1 if unknown or of an unknown store."""
        return self.guide_rows.get(brand, {}).get(guide_id, -1)

    def cell_row(self, cell: str) -> int:
        """The index of a cell, -1 if no store is of it."""
        return self.cell_rows.get(cell, -1)

    def cell_of(self, store_row: int) -> str:
        """The name of a store's cell."""
        return self.cells[int(self.store_cell[store_row])]

    def set_load(self, rows: Rows, values: Rows) -> None:
        """Take over how many open leads some guides have; rows of -1 are nobody's and left out."""
        self.guide_load[rows[rows >= 0]] = values[rows >= 0]

    def set_presence(self, rows: Rows, present: Bools) -> None:
        """Take over whether some guides are there; rows of -1 are nobody's and left out."""
        self.guide_present[rows[rows >= 0]] = present[rows >= 0]

    def on_leave(self, now_ms: int) -> Bools:
        """Which guides are on leave now, ``from <= now < to``."""
        now = self.leave_guide[(self.leave_from_ms <= now_ms) & (now_ms < self.leave_to_ms)]
        mask = np.zeros(len(self.guide_ids), np.bool_)
        mask[now] = True
        return mask


def effective_capacity(roster: Roster, now_ms: int) -> I32s:
    """Open leads each guide may hold now: 0 when inactive (guide or store), offline or on leave."""
    there = roster.guide_active & roster.guide_present & ~roster.on_leave(now_ms)
    return np.where(there, roster.guide_capacity, np.int32(0))


def build(
    stores: Iterable[Store], guides: Iterable[Guide], presence: Iterable[Presence], *, capacity_default: int
) -> Roster:
    """Lay out stores and guides of any brands; each identity is given at most once.

    A guide without a capacity has ``capacity_default``, one of a store that is not given is left out.
    """
    placed = store_columns(list(stores))
    return Roster(**placed, **guide_columns(list(guides), list(presence), placed, capacity_default))

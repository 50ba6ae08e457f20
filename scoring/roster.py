"""Stores and guides as columns: a struct of arrays that a whole batch is scored against.

A row, once a guide's or a store's, stays theirs until the roster is laid out anew: what moves gets a new
row and leaves the old one behind. So rows in the hands of a batch stay true while changes come in.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from scoring.arrays import Bools, F32s, I16s, I32s, I64s, Rows, U8s, gaps, spans, true_at
from scoring.calendar import Calendar
from scoring.names import Names
from scoring.opening import WEEKDAYS, Hours, Zone, is_open

#: A level for guides who have none: the middle, rounded down.
LEVEL_DEFAULT = 5
#: A book without a limit.
BOOK_UNLIMITED = 2**31 - 1
#: In ``guide_skills``: the level, and whether the guide prefers leads with that need.
LEVEL_BITS, PREFERS_BIT = 7, 8


def _names() -> Names:
    return Names(np.empty(0, "S8"), [], np.empty(0, np.int32), np.empty(0, np.int32))


def _column(kind: Any, *shape: int) -> Any:  # noqa: ANN401 - an empty array of any type
    return field(default_factory=lambda: np.empty((0, *shape), kind))


@dataclass(slots=True, eq=False, kw_only=True)
class Roster:
    """The columns ``store_*`` and ``guide_*`` are as long as `store_ids` and `guide_ids`, or longer."""

    capacity_default: int  #: open leads at once of a guide that does not say
    brands: dict[str, int] = field(default_factory=dict)  #: brand to its number
    cells: list[str] = field(default_factory=list)  #: names of the cells, see `layout.cell_name`
    cell_rows: dict[str, int] = field(default_factory=dict)  #: name of a cell to its index
    cell_guides: I64s = field(default_factory=lambda: np.zeros(8, np.int64))  #: [> cells]; the last one is 0
    cell_clock: I64s = field(default_factory=lambda: np.zeros(8, np.int64))  #: [> cells] see `fairness`
    tags: dict[str, int] = field(default_factory=dict)  #: skill to its column in ``guide_skills``
    zone_names: dict[str | None, int] = field(default_factory=dict)  #: time zone to its index in ``zones``
    zones: list[Zone] = field(default_factory=list)

    #: [stores in the index] brand number x grid.SQUARES + strip, ascending, and the row of the store
    square_key: I64s = _column(np.int64)
    square_store: I32s = _column(np.int32)
    #: [stores in the index + 1] how many guides all stores before each one have
    square_worth: I32s = field(default_factory=lambda: np.zeros(1, np.int32))

    #: Stores of kind hq, whose guides join in where others are few.
    hq_stores: I32s = _column(np.int32)

    store_ids: Names = field(default_factory=_names)
    store_key: I64s = _column(np.int64)
    store_lat: F32s = _column(np.float32)  #: degrees
    store_lon: F32s = _column(np.float32)  #: degrees
    store_point: F32s = _column(np.float32, 3)  #: the same place on the unit sphere; see ``store_xyz``
    store_brand: I32s = _column(np.int32)
    store_cell: I32s = _column(np.int32)  #: index into ``cells``
    store_zones: U8s = _column(np.uint8)  #: price zones: bit 0 full price, bit 1 special price
    store_kind: U8s = _column(np.uint8)  #: index into `layout.KINDS`
    store_active: Bools = _column(np.bool_)
    store_guides_start: I32s = _column(np.int32)  #: the store's guides are one run of rows,
    store_guides_count: I32s = _column(np.int32)  #: so many
    store_timezone: I16s = _column(np.int16)  #: index into ``zones``
    store_opens: I16s = _column(np.int16, len(WEEKDAYS))  #: minutes after midnight
    store_closes: I16s = _column(np.int16, len(WEEKDAYS))
    store_closed_first: I32s = _column(np.int32)  #: run in ``closed_days``
    store_closed_count: I32s = _column(np.int32)

    guide_ids: Names = field(default_factory=_names)
    guide_store: I32s = _column(np.int32)  #: row of the store
    guide_works: Bools = _column(np.bool_)  #: the guide is active
    guide_active: Bools = _column(np.bool_)  #: the guide is, and the store is
    guide_present: Bools = _column(np.bool_)  #: not known to be offline
    guide_capacity: I32s = _column(np.int32)  #: open leads at once
    guide_load: I32s = _column(np.int32)  #: open leads now, set from outside
    guide_book_max: I32s = _column(np.int32)  #: members bound at most
    guide_book: I32s = _column(np.int32)  #: members bound now, set from outside
    guide_level: U8s = _column(np.uint8)  #: 1..10
    guide_sells: U8s = _column(np.uint8)  #: price zones the guide sells
    guide_zones: U8s = _column(np.uint8)  #: and the store does
    guide_step: I32s = _column(np.int32)  #: how far one lead moves the turn, see `fairness`
    guide_turn: I64s = _column(np.int64)  #: set from outside, see `fairness`
    guide_answered: F32s = _column(
        np.float32
    )  #: offers accepted in time, faded; set from outside, see `beta`
    guide_offered: F32s = _column(np.float32)  #: of so many
    guide_won: F32s = _column(np.float32)  #: leads won, faded; set from outside
    guide_closed: F32s = _column(np.float32)  #: of so many
    guide_seen_ms: I64s = _column(np.int64)  #: up to when these four are faded
    guide_paused_ms: I64s = _column(np.int64)  #: no leads before then, epoch ms; set from outside
    guide_leave_first: I32s = _column(np.int32)  #: run in ``leave``
    guide_leave_count: I32s = _column(np.int32)
    guide_shift_first: I32s = _column(np.int32)  #: run in ``shifts``
    guide_shift_count: I32s = _column(np.int32)
    #: [guides, > tags] levels 0..5 in the low three bits, `PREFERS_BIT`; the last column is of no tag: all 0
    guide_skills: npt.NDArray[np.int8] = _column(np.int8, 8)

    leave: Calendar = field(default_factory=Calendar)  #: epoch ms
    shifts: Calendar = field(default_factory=Calendar)  #: epoch ms
    closed_days: Calendar = field(default_factory=Calendar)  #: days since 1970 on the store's clock

    @property
    def store_xyz(self) -> F32s:
        """Where stores are on the unit sphere, [3, stores]."""
        return self.store_point.T

    @property
    def store_hash(self) -> npt.NDArray[np.uint32]:
        """A hash of each store's brand and id, for ties."""
        return self.store_ids.hash

    @property
    def guide_hash(self) -> npt.NDArray[np.uint32]:
        """A hash of each guide's brand and id, for ties."""
        return self.guide_ids.hash

    @property
    def store_count(self) -> int:
        """How many stores there are; rows of stores that went do not count."""
        return self.square_store.size

    @property
    def guide_count(self) -> int:
        """How many guides there are; rows that were left behind do not count."""
        return int(self.square_worth[-1])

    @property
    def fragmentation(self) -> float:
        """The share of rows that were left behind, or of names that came or went since: from 0 on.

        Above a quarter it is worth laying out anew.
        """
        rows = len(self.store_ids) + len(self.guide_ids)
        behind = rows - self.store_count - self.guide_count
        return max(behind, self.store_ids.late + self.guide_ids.late) / max(rows, 1)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, ids included."""
        columns = [getattr(self, each.name) for each in fields(self)]
        calendars = (self.leave, self.shifts, self.closed_days)
        arrays = [column.nbytes for column in columns if isinstance(column, np.ndarray | Names)]
        return sum(arrays) + sum(calendar.begin.nbytes + calendar.end.nbytes for calendar in calendars)

    def store_row(self, brand: str, store_id: str) -> int:
        """The row of a store, -1 if unknown."""
        return self.store_ids.row(brand, store_id)

    def guide_row(self, brand: str, guide_id: str) -> int:
        """The row of a guide, -1 if unknown or of an unknown store."""
        return self.guide_ids.row(brand, guide_id)

    def cell_row(self, cell: str) -> int:
        """The index of a cell, -1 if no store is of it."""
        return self.cell_rows.get(cell, -1)

    def cell_of(self, store_row: int) -> str:
        """The name of a store's cell."""
        return self.cells[int(self.store_cell[store_row])]

    def guide_rows(self) -> I64s:
        """The rows of all guides there are, in the order of the index."""
        stores = self.square_store
        return spans(self.store_guides_start[stores].astype(np.int64), self.store_guides_count[stores])

    def guides_of(self, store_row: int) -> I64s:
        """The rows of a store's guides."""
        first = int(self.store_guides_start[store_row])
        return np.arange(first, first + int(self.store_guides_count[store_row]))

    def set_load(self, rows: Rows, values: Rows) -> None:
        """Take over how many open leads some guides have; rows of -1 are nobody's and left out."""
        self.guide_load[rows[rows >= 0]] = values[rows >= 0]

    def set_presence(self, rows: Rows, present: Bools) -> None:
        """Take over whether some guides are there; rows of -1 are nobody's and left out."""
        self.guide_present[rows[rows >= 0]] = present[rows >= 0]

    def on_leave(self, now_ms: int, rows: Rows) -> Bools:
        """Which of these guides are on leave now."""
        return self.leave.inside(self.guide_leave_first, self.guide_leave_count, rows, now_ms)

    def on_shift(self, now_ms: int, rows: Rows) -> Bools:
        """Which of these guides work now; who has no shifts works always."""
        if not self.shifts.begin.size:
            return np.ones(rows.size, np.bool_)
        works: Bools = self.guide_shift_count.take(rows) == 0
        works |= self.shifts.inside(self.guide_shift_first, self.guide_shift_count, rows, now_ms)
        return works

    def open_stores(self, now_ms: int, rows: Rows) -> Bools:
        """Which of these stores are open now; stores that stand one after the other are asked once."""
        if not rows.size:
            return np.zeros(0, np.bool_)
        edge = np.concatenate(([0], true_at(rows[1:] != rows[:-1]) + 1, [rows.size]))
        hours = Hours(
            self.store_opens,
            self.store_closes,
            self.store_timezone,
            self.store_closed_first,
            self.store_closed_count,
        )
        is_open_ = is_open(hours, rows[edge[:-1]], self.zones, self.closed_days, now_ms)
        return is_open_.repeat(gaps(edge))


def effective_capacity(roster: Roster, now_ms: int, rows: Rows | None = None) -> I32s:
    """Open leads each of these guides may hold now: 0 when inactive (guide or store), offline or on leave.

    ``rows``: by default every row there is.
    """
    if rows is None:
        rows = np.arange(len(roster.guide_ids))
    there = roster.guide_active[rows] & roster.guide_present[rows] & ~roster.on_leave(now_ms, rows)
    return np.where(there, roster.guide_capacity[rows], np.int32(0))


#: The columns of stores and of guides, by name.
STORE_COLUMNS = tuple(
    each.name for each in fields(Roster) if each.name.startswith("store_") and each.name != "store_ids"
)
GUIDE_COLUMNS = tuple(
    each.name for each in fields(Roster) if each.name.startswith("guide_") and each.name != "guide_ids"
)

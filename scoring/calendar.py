"""Spans of time that belong to rows: leave, shifts, closed days; each row's spans are one run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from scoring.arrays import Bools, I32s, I64s, Rows, spans

_STEPS_MAX = 12  # a run is shorter than 2 ** 12


def _none() -> I64s:
    return np.empty(0, np.int64)


@dataclass(slots=True, eq=False)
class Calendar:
    """Half-open spans ``begin <= t < end``, flat; rows hold where their runs begin and how long they are."""

    begin: I64s = field(default_factory=_none)
    end: I64s = field(default_factory=_none)

    def append(self, runs: Sequence[Iterable[tuple[int, int]]]) -> tuple[I32s, I32s]:
        """Add one run for each of n rows, in any order and overlapping or not; where they begin, how long."""
        merged = [_merged(run) for run in runs]
        count = np.array([len(run) for run in merged], np.int32)
        first = self.begin.size + np.concatenate(([0], np.cumsum(count)[:-1])) if count.size else count
        flat = np.array([span for run in merged for span in run], np.int64).reshape(-1, 2)
        if flat.size:
            self.begin = np.concatenate((self.begin, flat[:, 0]))
            self.end = np.concatenate((self.end, flat[:, 1]))
        return np.where(count > 0, first, 0).astype(np.int32), count

    def inside(self, first: Rows, count: Rows, rows: Rows, at: Rows | int) -> Bools:
        """Whether the time of each of these rows (one for all, or one for each) lies in a span of its run."""
        inside = np.zeros(rows.size, np.bool_)
        some = np.flatnonzero(count.take(rows)) if self.begin.size else rows[:0]
        if not some.size:
            return inside
        asked = rows[some]
        low, length = first[asked].astype(np.int64), count[asked].astype(np.int64)
        time = np.broadcast_to(at, rows.shape)[some]
        # the last span that begins at or before the time, by halves, all rows at once
        last = low - 1
        for step in (1 << bit for bit in range(_STEPS_MAX, -1, -1)):
            probe = last + step
            fits = probe < low + length
            fits[fits] = self.begin[probe[fits]] <= time[fits]
            last[fits] = probe[fits]
        found = last >= low
        inside[some[found]] = time[found] < self.end[last[found]]
        return inside

    def turns(self, first: Rows, count: Rows, after: int, until: int) -> Rows:
        """The positions of the rows of which a span begins or ends at a time of ``after < t <= until``."""
        edges = ((after < self.begin) & (self.begin <= until)) | ((after < self.end) & (self.end <= until))
        if not edges.any():
            return np.empty(0, np.int64)
        before = np.concatenate(([0], np.cumsum(edges)))
        return np.flatnonzero(before[first + count] > before[first])

    def gather(self, first: Rows, count: Rows) -> tuple[Calendar, I32s]:
        """A calendar of the runs of these rows alone, and where each begins in it."""
        at = spans(first, count)
        begins = np.concatenate(([0], np.cumsum(count)[:-1])) if count.size else count
        return Calendar(self.begin[at], self.end[at]), np.where(count > 0, begins, 0).astype(np.int32)


def _merged(run: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same times in spans that neither overlap nor are empty, in order."""
    out: list[tuple[int, int]] = []
    for begin, end in sorted(run):
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        elif begin < end:
            out.append((begin, end))
    return out

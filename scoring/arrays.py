"""The kinds of column that scoring passes around, and spans laid end to end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
I8s = npt.NDArray[np.int8]
U8s = npt.NDArray[np.uint8]
I16s = npt.NDArray[np.int16]
I32s = npt.NDArray[np.int32]
U32s = npt.NDArray[np.uint32]
I64s = npt.NDArray[np.int64]
U64s = npt.NDArray[np.uint64]
F32s = npt.NDArray[np.float32]
F64s = npt.NDArray[np.float64]
#: Row numbers of any integer type.
Rows = npt.NDArray[Any]

_ROW_BITS = 32


def no_rows() -> I32s:
    """No rows at all."""
    return np.empty(0, np.int32)


@dataclass(slots=True, eq=False)
class Pairs:
    """A few pairs of a request's row and a store's or guide's row, flat, in any order; none by default."""

    request: I32s = field(default_factory=no_rows)
    row: I32s = field(default_factory=no_rows)

    def holds(self, request: Rows, row: Rows) -> Bools:
        """Which of these pairs, none of a row below 0, are among them."""
        if not self.row.size:
            return np.zeros(row.size, np.bool_)
        mine = self.request.astype(np.int64) << _ROW_BITS | self.row
        named = np.zeros(int(max(request.max(initial=-1), self.request.max())) + 1, np.bool_)
        named[self.request] = True
        held = np.zeros(row.size, np.bool_)
        asked = np.flatnonzero(named.take(request))
        held[asked] = np.isin(request[asked].astype(np.int64) << _ROW_BITS | row[asked], mine)
        return held


def spans(start: Rows, count: Rows) -> I64s:
    """The numbers of many spans ``start .. start + count``, laid end to end, int64."""
    end = count.cumsum(dtype=np.int64)
    total = int(end[-1]) if end.size else 0
    numbers: I64s = (start - (end - count)).repeat(count)
    numbers += np.arange(total)
    return numbers


def starts(row: Rows, n: int) -> I64s:
    """Offsets ``[n + 1]`` of each row's run in ``row``, which ascends and holds numbers of ``0 .. n - 1``."""
    return np.searchsorted(row, np.arange(n + 1, dtype=row.dtype)).astype(np.int64, copy=False)


def true_at(mask: Bools) -> I64s:
    """The positions at which a mask holds; `numpy.flatnonzero` takes seven times as long over a short one."""
    at: I64s = mask.nonzero()[0]
    return at


def gaps(edge: Rows) -> Rows:
    """How far it is from each edge to the next, [n - 1]: the lengths of runs laid end to end."""
    return edge[1:] - edge[:-1]


def before(column: Rows) -> I64s:
    """How much stands before each place of a column, and in all of it, [n + 1]."""
    out = np.empty(column.size + 1, np.int64)
    out[0] = 0
    np.add.accumulate(column, out=out[1:])
    return out

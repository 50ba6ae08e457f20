"""The kinds of column that scoring passes around, and spans laid end to end."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
U8s = npt.NDArray[np.uint8]
I32s = npt.NDArray[np.int32]
U32s = npt.NDArray[np.uint32]
I64s = npt.NDArray[np.int64]
F32s = npt.NDArray[np.float32]
F64s = npt.NDArray[np.float64]
#: Row numbers of any integer type.
Rows = npt.NDArray[Any]


def spans(start: Rows, count: Rows) -> I64s:
    """The numbers of many spans ``start .. start + count``, laid end to end, int64."""
    end = np.cumsum(count, dtype=np.int64)
    total = int(end[-1]) if end.size else 0
    shift: I64s = np.repeat(start - (end - count), count)
    return np.arange(total) + shift


def starts(row: Rows, n: int) -> I64s:
    """Offsets ``[n + 1]`` of each row's run in ``row``, which ascends and holds numbers of ``0 .. n - 1``."""
    return np.concatenate(([0], np.cumsum(np.bincount(row, minlength=n)))).astype(np.int64)

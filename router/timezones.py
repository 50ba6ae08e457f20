"""Time zones for the ranking core, which has neither a clock nor the data base of zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from scoring.opening import Zone

#: The zone of a store that names none, or one that nobody knows.
DEFAULT = "Asia/Shanghai"
_FROM, _UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2060, 1, 1, tzinfo=UTC)
_STEP = timedelta(days=7)
_MINUTE = timedelta(minutes=1)


@lru_cache(maxsize=1024)
def zone(name: str | None) -> Zone:
    """From when on which offset from UTC holds, in the years 2020 to 2060."""
    try:
        info = ZoneInfo(name or DEFAULT)
    except (KeyError, ValueError, OSError):  # unknown, no name of a zone, a folder of zones
        info = ZoneInfo(DEFAULT)
    changes = [_FROM]
    at = _FROM
    while at < _UNTIL:
        if _offset_min(info, at) != _offset_min(info, at + _STEP):
            changes.append(_first_change(info, at, at + _STEP))
        at += _STEP
    since_ms = np.array([int(change.timestamp()) * 1000 for change in changes], np.int64)
    return Zone(since_ms, np.array([_offset_min(info, change) for change in changes], np.int32))


def _first_change(info: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The minute from which the offset of ``after`` holds."""
    while after - before > _MINUTE:
        middle = before + (after - before) // 2 // _MINUTE * _MINUTE
        if middle == before:
            break
        before, after = (
            (middle, after) if _offset_min(info, middle) == _offset_min(info, before) else (before, middle)
        )
    return after


def _offset_min(info: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(info).utcoffset()
    return int((offset or timedelta()).total_seconds()) // 60

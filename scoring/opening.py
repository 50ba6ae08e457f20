"""When stores are open: hours by day of the week and closed days, on the clock of the store's time zone.

Scoring has neither a clock nor the data base of time zones: the caller gives, for each zone, from when on
which offset from UTC holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from scoring.arrays import Bools, I32s, I64s, Rows
from scoring.calendar import Calendar
from topics.stores import Store, Weekday

WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
DAY_MINUTES = 1440
#: The first of January 1970 was a Thursday.
_FIRST_WEEKDAY = WEEKDAYS.index("thu")
_OPEN_ALWAYS = (0, DAY_MINUTES)
#: Hours end on the third day at the latest.
_DAYS_BACK = 3
_SHUT = (0, 0)


class Zone(NamedTuple):
    """From ``since_ms[i]`` on clocks are ``offset_min[i]`` ahead of UTC; ascending in time.

    Before the first change the first offset holds.
    """

    since_ms: I64s
    offset_min: I32s


#: The zone of a name; None stands for a store that names none.
Zones = Callable[[str | None], Zone]


def east_eight(_: str | None) -> Zone:
    """China's clock, which knows no summer time, whatever the name: for callers who have no data base."""
    return Zone(np.zeros(1, np.int64), np.full(1, 480, np.int32))


def week(store: Store) -> list[tuple[int, int]]:
    """Minutes of opening and closing for each day of the week; without any hours a store is always open."""
    if not store.hours:
        return [_OPEN_ALWAYS] * len(WEEKDAYS)
    return [_minutes(store.hours[day]) if day in store.hours else _SHUT for day in WEEKDAYS]


def closed_days(store: Store) -> list[tuple[int, int]]:
    """The closed days as spans of days since 1970; what is no day of the calendar is no closed day."""
    days = []
    for text in store.closed_days:
        try:
            day = int(np.datetime64(text, "D").astype(np.int64))
        except ValueError:
            continue
        days.append((day, day + 1))
    return days


class Hours(NamedTuple):
    """What is known of the hours of n stores."""

    opens: npt.NDArray[np.int16]  #: [n, 7] minutes after midnight, Monday first; day by day in memory
    closes: npt.NDArray[np.int16]  #: [n, 7] up to 50 h: closing after midnight counts on
    zone: Rows  #: [n] index into the zones
    closed_first: I32s  #: [n] run in the calendar of closed days
    closed_count: I32s


def is_open(hours: Hours, rows: Rows, zones: list[Zone], closed: Calendar, now_ms: int) -> Bools:
    """Which of these stores are open at ``now_ms``: by hours of today, or of a day before, past midnight."""
    minutes = [now_ms // 60_000 + _offset_min(zone, now_ms) for zone in zones]
    today = np.array([minute // DAY_MINUTES for minute in minutes], np.int64)
    minute = np.array([minute % DAY_MINUTES for minute in minutes], np.int16)
    is_open = np.zeros(rows.size, np.bool_)
    # one zone for all, most often: then one number stands for every store
    zone = hours.zone.take(rows).astype(np.int64) if len(zones) > 1 else np.zeros(1, np.int64)
    opens, closes = hours.opens.T.ravel(), hours.closes.T.ravel()
    for back in range(_DAYS_BACK):
        # a few zones are worked out first, then looked up
        day = today - back
        at = rows + ((day + _FIRST_WEEKDAY) % len(WEEKDAYS) * len(hours.zone)).take(zone)
        shuts = closes.take(at)
        if back and shuts.max(initial=0) <= back * DAY_MINUTES:
            continue
        since = (minute + np.int16(back * DAY_MINUTES)).take(zone)
        within = (opens.take(at) <= since) & (since < shuts)
        within &= ~closed.inside(hours.closed_first, hours.closed_count, rows, day.take(zone))
        is_open |= within
    return is_open


def _offset_min(zone: Zone, now_ms: int) -> int:
    at = int(np.searchsorted(zone.since_ms, now_ms, side="right")) - 1
    return int(zone.offset_min[max(at, 0)])


def _minutes(hours: str) -> tuple[int, int]:
    opens, closes = (int(text[:2]) * 60 + int(text[3:]) for text in hours.split("-"))
    return opens, closes

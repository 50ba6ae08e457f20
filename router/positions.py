"""Where a worker stands in each of its partitions, beside what the broker still has of them.

Kept apart from the delivery: everything here watches, so that an outage, a stuck event or a topic that was
cut short by its retention shows on a metric and is never silent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from faust.types import TP

log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """What can be seen of one partition."""

    lag_records: int
    """Records on the broker that are not committed yet."""
    head_of_line_s: float
    """Age of the oldest delivered and unacknowledged chunk, seconds; 0 without one."""
    truncated_records: int
    """Records that the broker removed before they were delivered, since this process started."""


class Positions:
    """Offsets by partition: committed, expected next, and the broker's end."""

    def __init__(self) -> None:
        self.committed: dict[TP, int] = {}
        self.truncated: dict[TP, int] = {}
        self._next: dict[TP, int] = {}
        self._ends: dict[TP, int] = {}
        self._jumps: list[tuple[TP, int, int]] = []

    def begin(self, committed: Mapping[TP, int]) -> None:
        """Note where the group stands in partitions that were just assigned.

        Where nothing was committed nothing is expected: a new group begins with the oldest record there is.
        """
        self.committed.update(committed)
        self._next.update(committed)

    def forget(self, tp: TP) -> None:
        """Note that a partition went elsewhere, or begins again from another offset."""
        for each in (self.committed, self._next, self._ends):
            each.pop(tp, None)

    def delivered(self, tp: TP, first: int, last: int, end: int) -> None:
        """Note a run of delivered records, and the broker's end that came with it.

        Whether a jump over offsets lost any records ``bounds`` will tell.
        """
        self._ends[tp] = max(end, last + 1)
        expected = self._next.get(tp, first)
        if first > expected:
            self._jumps.append((tp, expected, first))
        self._next[tp] = last + 1

    def bounds(self, begins: Mapping[TP, int], ends: Mapping[TP, int]) -> None:
        """Compare with the first and the next offset, by the broker's own word, of all partitions held.

        Offsets that are jumped over are no loss as such: transactions and compaction leave holes. They are
        one when the broker's log begins behind them.
        """
        self._ends = dict(ends)
        jumps, self._jumps = self._jumps, []
        for tp, expected, first in jumps:
            self._lost(tp, expected, min(first, begins.get(tp, 0)))
        for tp, begin in begins.items():
            if begin > self._next.get(tp, begin):
                self._lost(tp, self._next[tp], begin)
                self._next[tp] = begin

    def lag(self, tp: TP) -> int:
        """Records of a partition that are not committed yet, as far as known."""
        return max(0, self._ends.get(tp, 0) - self.committed.get(tp, 0))

    def held(self) -> Iterable[TP]:
        """The partitions of which the broker's bounds are known."""
        return tuple(self._ends)

    def _lost(self, tp: TP, expected: int, begin: int) -> None:
        if begin <= expected:
            return
        self.truncated[tp] = self.truncated.get(tp, 0) + begin - expected
        log.error(
            "offset out of range: %s[%d] was expected to go on at %d and begins at %d; "
            "its retention removed records before they were read",
            *(tp.topic, tp.partition, expected, begin),
        )

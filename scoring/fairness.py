"""Whose turn it is: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) over the guides of a cell.

Each guide has a *turn*, the point up to which they have had their share; a cell has a *clock*, the start of
its latest lead. A lead given to a guide starts at their turn, or at the clock less a horizon where that is
later, and moves the turn on by one lead's worth: one divided by the guide's weight. So equals take turns,
weights of 1 and 3 get one and three of four, and who was away begins at most a horizon behind the others:
nobody is flooded.

All numbers are integers, millionths of a lead at weight 1: they are the same in Lua, JSON and numpy. Turns
and clocks only grow, so the largest that a log has recorded is the newest, in whatever order it is read.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scoring.arrays import F32s, F64s, I32s, I64s

#: One lead at weight 1.
LEAD = 1_000_000
WEIGHT_DEFAULT = 1.0
#: Smaller weights count as this one, so that a step is a number of 32 bits.
WEIGHT_MIN = 0.001


class Claimed(NamedTuple):
    """What a claim leaves behind."""

    start: int
    turn: int  #: of the guide
    clock: int  #: of the cell


def step_of(weight: float | None) -> int:
    """How far one lead moves the turn of a guide of that weight; 0 for weight 0: never due."""
    if weight is None:
        weight = WEIGHT_DEFAULT
    return round(LEAD / max(weight, WEIGHT_MIN)) if weight > 0 else 0


def claimed(turn: int, clock: int, step: int, horizon: int) -> Claimed:
    """The numbers after a lead went to a guide; ``turn`` is 0 for one who never had any."""
    start = max(turn, clock - horizon)
    return Claimed(start, start + step, max(clock, start))


def replayed(turn: int, clock: int, recorded: Claimed) -> tuple[int, int]:
    """Turn of the guide and clock of the cell after a record of the log, in any order and however often."""
    return max(turn, recorded.turn), max(clock, recorded.start)


def due(turn: I64s, step: I32s, clock: I64s, horizon: int) -> F32s:
    """How due each guide is, 0..1: 1 a horizon behind the clock, falling the more they have had; weight 0: 0.

    It falls without end and never to 0, so that of two guides the one who is behind is always more due.
    """
    ahead: F64s = np.maximum(turn - clock + horizon, 0).astype(np.float64)
    share: F32s = (LEAD / (LEAD + ahead)).astype(np.float32)
    return np.where(step > 0, share, np.float32(0))

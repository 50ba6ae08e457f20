"""Leads and guides matched as an auction: all bid at once, guides keep the highest bids there is room for.

The auction algorithm (Bertsekas, A distributed algorithm for the assignment problem, 1979; with several
places for each guide, Bertsekas and Castanon 1989), all bids of a round together as numpy columns. A bid is
at least `STEP` above the price, so the sum of scores is at most ``matched leads x STEP`` below the best
there is. A price rises only once a guide is full and a full guide stays full, so no lead is left out while
a guide whom it would take has room.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scoring.arrays import Bools, F64s, I32s, I64s, Rows, U32s

STEP = 0.015
_NOBODY = -9.0


class Table(NamedTuple):
    """m leads with up to k guides each, best first; ``guide`` is 0 .. guides, the last one nobody's."""

    score: F64s  #: [m, k] 0..1, below 0 where there is no guide
    guide: I64s  #: [m, k]
    tie: U32s  #: [m] the lower one goes first among equals, whatever the order of rows


def auction(table: Table, room: I32s, rounds_max: int) -> I64s:
    """The column of the guide that each lead gets, -1 for none, [m]; ``room`` [guides + 1] of nobody is 0.

    After ``rounds_max`` rounds of bids those who have lost last get what is left by `in_turn`, highest
    score first.
    """
    m = len(table.tie)
    price = np.where(room > 0, 0.0, np.inf)
    column, bid = np.full(m, -1, np.int64), np.zeros(m)
    holds = np.full(m, room.size - 1)
    todo = np.arange(m)
    for _ in range(rounds_max):
        value = table.score[todo] - price.take(table.guide[todo])
        best = value.argmax(axis=1)
        row = np.arange(todo.size)
        gain = value[row, best]
        value[row, best] = _NOBODY
        other = np.maximum(value.max(axis=1, initial=0), 0)
        bids = np.flatnonzero(gain >= 0)
        if not bids.size:
            return column
        lead, wanted = todo[bids], table.guide[todo[bids], best[bids]]
        column[lead], holds[lead] = best[bids], wanted
        bid[lead] = price[wanted] + gain[bids] - other[bids] + STEP
        wins, lost = _highest(_among(holds, wanted, room.size), holds, bid, table.tie, room)
        price[holds[wins]] = bid[wins]
        column[lost], holds[lost] = -1, room.size - 1
        todo = lost
    left = room - np.bincount(holds, minlength=room.size).astype(np.int32)
    rest = Table(table.score[todo], table.guide[todo], table.tie[todo])
    column[todo] = in_turn(rest, left, -rest.score)
    return column


def in_turn(table: Table, room: I32s, rank: F64s) -> I64s:
    """The column that each lead gets, -1 for none, when guides take the lowest ``rank`` [m, k].

    Deferred acceptance (Gale and Shapley 1962). With the score as rank, highest first, it ends like a
    greedy walk through all pairs by score; with a rank that is the lead's alone, like leads that choose one
    by one.
    """
    m = len(table.tie)
    column, holds = np.full(m, -1, np.int64), np.full(m, room.size - 1)
    asking, at = np.arange(m), np.zeros(m, np.int64)
    claim = np.zeros(m)
    while asking.size:
        there = at[asking] < table.guide.shape[1]
        asking = asking[there]
        asking = asking[table.score[asking, at[asking]] >= 0]
        wanted = table.guide[asking, at[asking]]
        column[asking], holds[asking] = at[asking], wanted
        claim[asking] = -rank[asking, at[asking]]
        _, lost = _highest(_among(holds, wanted, room.size), holds, claim, table.tie, room)
        column[lost], holds[lost] = -1, room.size - 1
        at[lost] += 1
        asking = lost
    return column


def _among(holds: Rows, guides: Rows, n: int) -> I64s:
    """The leads that hold or ask any of these guides."""
    touched: Bools = np.zeros(n, np.bool_)
    touched[guides] = True
    touched[-1] = False
    return np.flatnonzero(touched.take(holds))


def _highest(leads: I64s, holds: Rows, bid: F64s, tie: U32s, room: I32s) -> tuple[I64s, I64s]:
    """Of the leads at each guide: the lowest bid taken by a guide who is full, and those who lose."""
    order = leads[np.lexsort((tie[leads], -bid[leads], holds[leads]))]
    guide = holds[order]
    first = np.flatnonzero(np.diff(guide, prepend=-1))
    place = np.arange(order.size) - np.repeat(first, np.diff(first, append=order.size))
    most = room[guide]
    return order[place == most - 1], order[place >= most]

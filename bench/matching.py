"""Instances of the match, and other ways to solve them."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from scoring.arrays import I32s, I64s
from scoring.auction import Table

RATIOS = (8.0, 1.6, 0.8, 0.4)
WIDTH = 16
PLACES = 2


def instance(leads: int, ratio: float, rng: np.random.Generator) -> tuple[Table, I32s]:
    """Leads and guides of one town, with ``ratio`` places for each lead, two a guide on average.

    Scores are of nearness, of the guide's merit, and of what only the pair knows; shortlists hold 16.
    The town grows with the leads, so a batch of any size is as dense.
    """
    slots = int(leads * ratio)
    guides = max(4, slots // PLACES)
    side = np.sqrt(leads / 512)
    at, home = rng.uniform(0, side, (leads, 2)), rng.uniform(0, side, (guides, 2))
    merit = rng.uniform(0, 0.2, guides)
    width = min(WIDTH, guides)
    guide, score = np.empty((leads, width), np.int64), np.empty((leads, width))
    for begin in range(0, leads, 512):
        rows = slice(begin, begin + 512)
        far = np.sqrt(((at[rows, None] - home[None]) ** 2).sum(axis=2))
        value = 0.4 * 0.08 / (0.08 + far) + merit + 0.2 * rng.uniform(0, 1, far.shape) ** 2 + 0.1
        guide[rows] = np.argsort(-value, axis=1)[:, :width]
        score[rows] = np.take_along_axis(value, guide[rows], axis=1)
    room = np.append(rng.multinomial(slots, np.ones(guides) / guides), 0).astype(np.int32)
    return Table(score, guide, rng.permutation(leads).astype(np.uint32)), room


def dense(table: Table, room: I32s) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The instance as scipy wants it: a row for each lead, a column for each place; 0 where no pair is."""
    m = len(table.tie)
    scores = np.zeros((m, room.size))
    np.put_along_axis(scores, table.guide, table.score, axis=1)
    return scores[:, np.repeat(np.arange(room.size), np.minimum(room, m))]


def optimum(scores: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float:
    """The highest sum of scores."""
    rows, columns = linear_sum_assignment(scores, maximize=True)
    return float(scores[rows, columns].sum())


def row_by_row(table: Table, room: I32s) -> I64s:
    """Each lead takes the first of its shortlist who has room: what the claim alone would do."""
    left = room.copy()
    column = np.full(len(table.tie), -1, np.int64)
    for row, guides in enumerate(table.guide.tolist()):
        for at, guide in enumerate(guides):
            if left[guide]:
                left[guide] -= 1
                column[row] = at
                break
    return column


def total(table: Table, column: I64s) -> float:
    """The sum of scores of a matching."""
    held = np.flatnonzero(column >= 0)
    return float(table.score[held, column[held]].sum())

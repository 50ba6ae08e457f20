"""The guides of a batch, each once, and the stretches of them that each lead looks at.

A disc is a few rows of stores that stand side by side, so what is counted or laid out for a lead goes by a
few long stretches and not by every store.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scoring.arrays import I64s, before, gaps, spans, true_at
from scoring.retrieve import Runs
from scoring.roster import Roster


class Stretches(NamedTuple):
    """Guides side by side in a column who are looked at for one lead; ascending by lead."""

    start: I64s  #: [n + 1] lead i has the stretches start[i] .. start[i + 1]
    begin: I64s
    end: I64s

    def per_lead(self, amount: I64s) -> I64s:
        """The sum of an amount of each stretch over each lead, [n]."""
        return gaps(before(amount).take(self.start))


def joined(start: I64s, begin: I64s, end: I64s) -> Stretches:
    """Runs of a lead that touch made one; ``start`` [n + 1]: where the runs of each lead begin."""
    apart = np.ones(begin.size + 1, np.bool_)
    apart[1:-1] = begin[1:] != end[:-1]
    apart[start] = True
    edge = true_at(apart)
    return Stretches(np.searchsorted(edge, start), begin.take(edge[:-1]), end.take(edge[1:] - 1))


def shared(found: Runs, roster: Roster) -> tuple[I64s, I64s]:
    """Each guide of the batch's stores once, and where each run of candidates begins among them."""
    here = np.zeros(roster.store_guides_count.size, np.bool_)
    here[found.store] = True
    stores = true_at(here)
    count = roster.store_guides_count[stores].astype(np.int64)
    at = np.empty(here.size, np.int64)
    # where a store's guides begin here, less where they begin in the roster
    at[stores] = np.cumsum(count) - count - roster.store_guides_start[stores]
    guide = spans(roster.store_guides_start[stores].astype(np.int64), count)
    return guide, at.take(found.store) + found.first

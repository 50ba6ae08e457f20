"""From candidates to the pairs of a lead and a guide that may be, each with its score.

Work is done at the coarsest grain there is: a guide who stands in many leads' candidates is asked once about
leave, load and record, a lead and a store once about distance; only what is left is worked out pair by pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from scoring.arrays import Bools, F32s, I32s, I64s, Rows, spans
from scoring.eligibility import ELIGIBILITY
from scoring.features import FEATURES
from scoring.policy import Policy
from scoring.requests import Requests
from scoring.retrieve import Runs
from scoring.roster import Roster
from scoring.view import Grain, View

_NO_KM = np.empty(0, np.float32)
_NO_ROWS = np.empty(0, np.int32)
#: Counts of three filters share a word of 64 bits; each has room for two million guides of one lead.
_BITS, _PER_WORD = 21, 3
#: Pairs that are worked on together.
_PAIRS_AT_ONCE = 1 << 17


@dataclass(slots=True, eq=False)
class Scored:
    """Eligible pairs, ascending by lead."""

    lead: I64s
    guide: I64s
    score: F32s  #: 0..1


@dataclass(slots=True, eq=False)
class Field:
    """Who is left to compare after guides and stores have been asked, and what is known of them so far."""

    view: View  #: leads with stores: the runs that are left
    begin: I64s  #: where each run begins in ``guides``
    count: I64s
    fit: F32s  #: of each run: the sum of its features
    guides: View  #: each guide who may, once
    merit: F32s  #: the sum of the guide's features
    seen: I32s  #: [n] guides looked at
    filtered: I32s  #: [n, filters] guides refused, by the first filter that refused

    def blocks(self) -> Iterator[slice]:
        """Slices of the runs, each of whole leads and of few enough pairs for the processor's cache."""
        pairs = np.cumsum(self.count)
        last = np.flatnonzero(np.diff(self.view.lead, append=-1))  # the last run of each lead
        block = (pairs[last] - 1) // _PAIRS_AT_ONCE
        ends = last[np.flatnonzero(np.diff(block, append=-1))] + 1
        for begin, end in pairwise([0, *ends.tolist()]):
            yield slice(begin, end)

    def pairs(self, runs: slice) -> Scored:
        """The eligible pairs of some runs; whom a filter refuses is counted."""
        count = self.count[runs]
        at = spans(self.begin[runs], count)
        score = self.merit.take(at)
        score += np.repeat(self.fit[runs], count)
        lead = np.repeat(self.view.lead[runs], count)
        guide = self.guides.guide.take(at)
        view = replace(self.view, lead=lead, guide=guide, km=_NO_KM, stores=None, guides=self.guides, at=at)
        allowed = _pairs_that_may(view, Grain.PAIR, self.filtered, None)
        if not allowed.all():
            kept = np.flatnonzero(allowed)
            view, score = view.keep(kept), score.take(kept)
        _add(score, view, Grain.PAIR)
        return Scored(view.lead, view.guide, score)


def weights(policy: Policy) -> F32s:
    """The policy's weight of each feature, as shares of 1."""
    given = np.array([policy.weights[feature.name] for feature in FEATURES])
    shares: F32s = (given / given.sum()).astype(np.float32)
    return shares


def scores(view: View) -> F32s:
    """The weighted mean of the features of each pair, 0..1, to the bit what `Field.pairs` gives."""
    score = _sum(view, Grain.GUIDE) + _sum(view, Grain.STORE)
    _add(score, view, Grain.PAIR)
    return score


def field(requests: Requests, roster: Roster, policy: Policy, now_ms: int, found: Runs) -> Field:
    """Filter and value the guides and the stores of the candidates."""
    n = len(requests)
    filtered = np.zeros((n, len(ELIGIBILITY)), np.int32)
    guide, first = _shared(found, roster)
    view = View(requests, roster, policy, now_ms, _NO_ROWS, guide, _NO_KM)
    fine, refused = _guides_that_may(view)
    _count_runs(filtered, found, first, refused)
    view = replace(view, guide=guide.take(np.flatnonzero(fine)))
    before = _before(fine.astype(np.int32))
    begin = before.take(first)
    count = before.take(first + found.count) - begin
    stores = View(requests, roster, policy, now_ms, found.lead, _NO_ROWS, found.km, found.store)
    kept = np.flatnonzero(_pairs_that_may(stores, Grain.STORE, filtered, count) & (count > 0))
    # stores without anybody who may are left out
    stores = View(
        requests,
        roster,
        policy,
        now_ms,
        found.lead.take(kept),
        _NO_ROWS,
        found.km.take(kept),
        found.store.take(kept),
    )
    return Field(
        view=stores,
        begin=begin.take(kept),
        count=count.take(kept),
        fit=_sum(stores, Grain.STORE),
        guides=view,
        merit=_sum(view, Grain.GUIDE),
        seen=np.bincount(found.lead, found.count, n).astype(np.int32),
        filtered=filtered,
    )


def _shared(found: Runs, roster: Roster) -> tuple[I64s, I64s]:
    """Each guide of the batch's stores once, and where each run of candidates begins among them."""
    here = np.zeros(roster.store_guides_count.size, np.bool_)
    here[found.store] = True
    stores = np.flatnonzero(here)
    count = roster.store_guides_count[stores].astype(np.int64)
    at = np.empty(here.size, np.int64)
    # where a store's guides begin here, less where they begin in the roster
    at[stores] = np.cumsum(count) - count - roster.store_guides_start[stores]
    guide = spans(roster.store_guides_start[stores].astype(np.int64), count)
    return guide, at.take(found.store) + found.first


def _guides_that_may(view: View) -> tuple[Bools, list[tuple[int, Bools]]]:
    """Who passes the filters of guides, and for each filter that refused whom it was the first to refuse."""
    fine = np.ones(len(view), np.bool_)
    refused: list[tuple[int, Bools]] = []
    for column, each in enumerate(ELIGIBILITY):
        if each.grain is Grain.GUIDE and each.name in view.policy.filters:
            allowed = each.allows(view)
            if not allowed.all():
                refused.append((column, fine & ~allowed))
                fine &= allowed
    return fine, refused


def _count_runs(filtered: I32s, found: Runs, first: I64s, refused: list[tuple[int, Bools]]) -> None:
    """Count, for each lead, the guides of its runs that a filter refused."""
    end = first + found.count
    ends = np.searchsorted(found.lead, np.arange(1, len(filtered) + 1))
    for at in range(0, len(refused), _PER_WORD):
        some = refused[at : at + _PER_WORD]
        packed = np.zeros(some[0][1].size, np.int64)
        for place, (_, mask) in enumerate(some):
            packed |= mask.astype(np.int64) << (_BITS * place)
        before = _before(packed)
        in_lead = _before(before.take(end) - before.take(first))[np.concatenate(([0], ends))]
        counts = np.diff(in_lead)
        for place, (column, _) in enumerate(some):
            filtered[:, column] = counts >> (_BITS * place) & ((1 << _BITS) - 1)


def _pairs_that_may(view: View, grain: Grain, filtered: I32s, count: Rows | None) -> Bools:
    """What passes the filters of a grain; the others are counted, each as so many guides."""
    fine = np.ones(len(view), np.bool_)
    for column, each in enumerate(ELIGIBILITY):
        if each.grain is grain and each.name in view.policy.filters:
            allowed = each.allows(view)
            if not allowed.all():
                first = np.flatnonzero(fine & ~allowed)
                many = None if count is None else count[first]
                filtered[:, column] += np.bincount(view.lead[first], many, len(filtered)).astype(np.int32)
                fine &= allowed
    return fine


def _sum(view: View, grain: Grain) -> F32s:
    score = np.zeros(len(view), np.float32)
    _add(score, view, grain)
    return score


def _add(score: F32s, view: View, grain: Grain) -> None:
    """Add the weighted features of a grain, in the order of the list."""
    for weight, feature in zip(weights(view.policy), FEATURES, strict=True):
        if weight and feature.grain is grain:
            value = feature.value(view)
            value *= weight
            score += value


def _before(column: Rows) -> I64s:
    """How much stands before each place, [n + 1]."""
    out = np.empty(column.size + 1, np.int64)
    out[0] = 0
    out[1:] = column
    np.cumsum(out, out=out)
    return out

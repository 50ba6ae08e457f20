"""From candidates to the pairs of a lead and a guide that may be, each with its score.

Work is done at the coarsest grain there is: a guide who stands in many leads' candidates is asked once about
leave, load and record, a lead and a store once about distance; only what is left is worked out pair by pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scoring.arrays import Bools, F32s, I32s, I64s, Rows, before, gaps, spans, starts, true_at
from scoring.eligibility import ELIGIBILITY
from scoring.features import FEATURES
from scoring.policy import Policy
from scoring.requests import Requests
from scoring.retrieve import Runs
from scoring.roster import Roster
from scoring.stretches import Stretches, joined, shared
from scoring.view import Grain, View

_NO_KM = np.empty(0, np.float32)
_NO_ROWS = np.empty(0, np.int32)
#: Counts of three filters share a word of 64 bits; each has room for two million guides of one lead.
_BITS, _PER_WORD = 21, 3
#: Taken off the score of a pair that a filter refuses.
_REFUSED = np.float32(2)
#: Pairs that are worked on together.
_PAIRS_AT_ONCE = 1 << 18


@dataclass(slots=True, eq=False)
class Scored:
    """Pairs, ascending by lead."""

    start: I64s  #: [n + 1] lead i has the pairs start[i] .. start[i + 1]
    lead: I64s
    guide: I64s
    score: F32s  #: 0..1, below 0 for those whom a filter refuses

    def keep(self, kept: Rows) -> Scored:
        """The pairs at these positions, which ascend."""
        start = np.searchsorted(kept, self.start)
        return Scored(start, self.lead.take(kept), self.guide.take(kept), self.score.take(kept))


@dataclass(slots=True, eq=False)
class Field:
    """Who is left to compare after guides and stores have been asked, and what is known of them so far."""

    start: I64s  #: [n + 1] where the runs of each lead begin
    view: View  #: leads with stores: the runs
    count: I64s  #: how many of each run may
    fit: F32s  #: of each run: the sum of its features
    stretches: Stretches  #: the same runs in ``guides``, those that touch made one
    per_lead: I64s  #: [n] how many guides they hold
    guides: View  #: each guide who may, once
    merit: F32s  #: the sum of the guide's features
    seen: I32s  #: [n] guides looked at
    filtered: I32s  #: [n, filters] guides refused, by the first filter that refused
    shares: F32s  #: [features] what each weighs

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of leads of few enough pairs for the processor's cache."""
        block = np.cumsum(self.per_lead) // _PAIRS_AT_ONCE
        edges = true_at(block[1:] != block[:-1]) + 1
        yield from pairwise([0, *edges.tolist(), block.size])

    def pairs(self, low: int, high: int) -> Scored:
        """The pairs of the leads ``low .. high``; whom a filter refuses is counted.

        To score them too costs less than to take them out of every column first.
        """
        runs = slice(self.start[low], self.start[high])
        some = slice(self.stretches.start[low], self.stretches.start[high])
        begin, end = self.stretches.begin[some], self.stretches.end[some]
        per_lead = np.zeros_like(self.per_lead)
        per_lead[low:high] = self.per_lead[low:high]
        at = spans(begin, end - begin)
        score = self.merit.take(at)
        score += self.fit[runs].repeat(self.count[runs])
        view = View(
            self.view.requests,
            self.view.roster,
            self.view.policy,
            self.view.now_ms,
            lead=np.arange(per_lead.size).repeat(per_lead),
            guide=self.guides.guide.take(at),
            km=_NO_KM,
            guides=self.guides,
            at=at,
            per_lead=per_lead,
        )
        start = before(per_lead)
        allowed = _those_that_may(view, Grain.PAIR, self.filtered, start)
        _add(score, view, Grain.PAIR, self.shares)
        score -= ~allowed * _REFUSED
        return Scored(start, view.lead, view.guide, score)


def weights(policy: Policy) -> F32s:
    """The policy's weight of each feature, as shares of 1."""
    given = np.array([policy.weights[feature.name] for feature in FEATURES])
    shares: F32s = (given / given.sum()).astype(np.float32)
    return shares


def scores(view: View) -> F32s:
    """The weighted mean of the features of each pair, 0..1, to the bit what `Field.pairs` gives."""
    shares = weights(view.policy)
    score = _sum(view, Grain.GUIDE, shares) + _sum(view, Grain.STORE, shares)
    _add(score, view, Grain.PAIR, shares)
    return score


def field(requests: Requests, roster: Roster, policy: Policy, now_ms: int, found: Runs) -> Field:
    """Filter and value the guides and the stores of the candidates."""
    n = len(requests)
    filtered = np.zeros((n, len(ELIGIBILITY)), np.int32)
    start = starts(found.lead, n)
    guide, begin = shared(found, roster)
    end = begin + found.count
    stretches = joined(start, begin, end)
    guides = View(requests, roster, policy, now_ms, _NO_ROWS, guide, _NO_KM)
    fine, refused = _guides_that_may(guides)
    _count_refused(filtered, stretches, refused)
    seen = stretches.per_lead(stretches.end - stretches.begin)
    may = before(fine)
    count = may.take(end) - may.take(begin)
    stores = View(requests, roster, policy, now_ms, found.lead, _NO_ROWS, found.km, found.store)
    stores.per_lead = gaps(start)
    allowed = _those_that_may(stores, Grain.STORE, filtered, start, count)
    if not allowed.all():
        count *= allowed
        kept = true_at(allowed)
        stretches = joined(np.searchsorted(kept, start), begin.take(kept), end.take(kept))
    stretches = Stretches(stretches.start, may.take(stretches.begin), may.take(stretches.end))
    guides = View(requests, roster, policy, now_ms, _NO_ROWS, guide.take(true_at(fine)), _NO_KM)
    shares = weights(policy)
    return Field(
        start=start,
        view=stores,
        count=count,
        fit=_sum(stores, Grain.STORE, shares),
        stretches=stretches,
        per_lead=stretches.per_lead(stretches.end - stretches.begin),
        guides=guides,
        merit=_sum(guides, Grain.GUIDE, shares),
        seen=seen.astype(np.int32),
        filtered=filtered,
        shares=shares,
    )


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


def _count_refused(filtered: I32s, runs: Stretches, refused: list[tuple[int, Bools]]) -> None:
    """Count, for each lead, the guides of its runs that a filter refused."""
    for at in range(0, len(refused), _PER_WORD):
        some = refused[at : at + _PER_WORD]
        packed = np.zeros(some[0][1].size, np.int64)
        for place, (_, mask) in enumerate(some):
            packed |= mask.astype(np.int64) << (_BITS * place)
        sums = before(packed)
        counted = runs.per_lead(sums.take(runs.end) - sums.take(runs.begin))
        for place, (column, _) in enumerate(some):
            filtered[:, column] = counted >> (_BITS * place) & ((1 << _BITS) - 1)


def _those_that_may(
    view: View, grain: Grain, filtered: I32s, start: I64s, count: Rows | None = None
) -> Bools:
    """What passes the filters of a grain; the others are counted, each as so many guides.

    ``start`` [n + 1]: where what is each lead's begins.
    """
    fine = np.ones(len(view), np.bool_)
    for column, each in enumerate(ELIGIBILITY):
        if each.grain is grain and each.name in view.policy.filters:
            allowed = each.allows(view)
            if not allowed.all():
                first = true_at(fine & ~allowed)
                refused = np.searchsorted(first, start)
                if count is not None:
                    refused = before(count.take(first)).take(refused)
                filtered[:, column] += gaps(refused).astype(np.int32)
                fine &= allowed
    return fine


def _sum(view: View, grain: Grain, shares: F32s) -> F32s:
    score = np.zeros(len(view), np.float32)
    _add(score, view, grain, shares)
    return score


def _add(score: F32s, view: View, grain: Grain, shares: F32s) -> None:
    """Add the weighted features of a grain, in the order of the list."""
    if not score.size:
        return
    for weight, feature in zip(shares, FEATURES, strict=True):
        if weight and feature.grain is grain:
            value = view.per_guide(feature.value) if grain is Grain.GUIDE else feature.value(view)
            score += weight * value

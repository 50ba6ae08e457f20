"""From candidates to the pairs of a lead and a guide that may be, each with its score.

Work is done at the coarsest grain there is: a guide who stands in many leads' candidates is asked once about
leave, load and record, a lead and a store once about distance; only what is left is worked out pair by pair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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


@dataclass(slots=True, eq=False)
class Scored:
    """The eligible pairs, ascending by lead."""

    lead: I32s
    guide: I32s
    score: F32s  #: 0..1
    seen: I32s  #: [n] guides looked at
    filtered: I32s  #: [n, filters] guides refused, by the first filter that refused


def weights(policy: Policy) -> F32s:
    """The policy's weight of each feature, as shares of 1."""
    given = np.array([policy.weights[feature.name] for feature in FEATURES])
    shares: F32s = (given / given.sum()).astype(np.float32)
    return shares


def scores(view: View) -> F32s:
    """The weighted mean of the features of each pair, 0..1, to the bit what `scored` gives."""
    score = _sum(view, Grain.GUIDE) + _sum(view, Grain.STORE)
    _add(score, view, Grain.PAIR)
    return score


def scored(requests: Requests, roster: Roster, policy: Policy, now_ms: int, found: Runs) -> Scored:
    """Filter and score candidates."""
    n = len(requests)
    filtered = np.zeros((n, len(ELIGIBILITY)), np.int32)
    seen = np.bincount(found.lead, found.count, n).astype(np.int32)
    guide, first = _shared(found, roster)

    view = View(requests, roster, policy, now_ms, _NO_ROWS, guide, _NO_KM)
    fine, refused = _guides_that_may(view)
    _count_runs(filtered, found, first, refused)
    merit = _sum(replace(view, guide=guide[fine]), Grain.GUIDE)
    before = _before(fine)
    begin = before[first]
    count = before[first + found.count] - begin

    view = View(requests, roster, policy, now_ms, found.lead, _NO_ROWS, found.km, found.store)
    fine_stores = _pairs_that_may(view, Grain.STORE, filtered, count)
    kept = np.flatnonzero(fine_stores & (count > 0))
    view = View(
        requests, roster, policy, now_ms, found.lead[kept], _NO_ROWS, found.km[kept], found.store[kept]
    )
    fit, count = _sum(view, Grain.STORE), count[kept]

    at = spans(begin[kept], count)
    score = merit.take(at)
    score += np.repeat(fit, count)
    lead = np.repeat(view.lead, count)
    view = View(requests, roster, policy, now_ms, lead, guide[fine].take(at), _NO_KM)
    allowed = _pairs_that_may(view, Grain.PAIR, filtered, None)
    if not allowed.all():
        view, score = view.where(allowed), score[allowed]
    _add(score, view, Grain.PAIR)
    return Scored(view.lead, view.guide, score, seen, filtered)


def _shared(found: Runs, roster: Roster) -> tuple[I32s, I64s]:
    """Each guide of the batch's stores once, and where each run of candidates begins among them."""
    here = np.zeros(roster.store_guides_count.size, np.bool_)
    here[found.store] = True
    stores = np.flatnonzero(here)
    count = roster.store_guides_count[stores].astype(np.int64)
    at = np.empty(here.size, np.int64)
    # where a store's guides begin here, less where they begin in the roster
    at[stores] = np.cumsum(count) - count - roster.store_guides_start[stores]
    guide = spans(roster.store_guides_start[stores].astype(np.int64), count).astype(np.int32)
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
        in_lead = _before(before[end] - before[first])[np.concatenate(([0], ends))]
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
    out = np.zeros(column.size + 1, np.int64)
    np.cumsum(column, out=out[1:])
    return out

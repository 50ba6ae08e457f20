"""The best guides for each lead of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoring.arrays import F32s, I32s, I64s, Rows, U32s, starts
from scoring.eligibility import ELIGIBILITY
from scoring.features import FEATURES
from scoring.policy import Policy
from scoring.requests import Requests
from scoring.retrieve import candidates
from scoring.roster import Roster
from scoring.view import View

_HALF = np.uint64(32)


@dataclass(slots=True, eq=False)
class Ranking:
    """The shortlists of n leads, laid end to end, each best first."""

    start: I32s  #: [n + 1] lead i has the entries start[i] .. start[i + 1]
    guide_row: I32s
    score: F32s  #: 0..1
    seen: I32s  #: [n] guides looked at
    filtered: I32s  #: [n, filters] guides refused, by the first filter that refused


def rank(requests: Requests, roster: Roster, policy: Policy, now_ms: int, seed: int = 0) -> Ranking:
    """Retrieve, filter, score and cut a batch, at most ``shortlist_max`` guides for each lead.

    Pure, and the same to the bit whatever the order of roster and batch: ties go by a hash of lead, guide
    and seed. ``seed`` is any integer.
    """
    found = candidates(requests, roster, policy)
    view = View(requests, roster, policy, now_ms, found.lead_row, found.guide_row, found.km)
    seen = np.bincount(found.lead_row, minlength=len(requests)).astype(np.int32)
    view, filtered = _eligible(view)
    score = scores(view)
    key = _sort_key(score, _ties(view, seed))
    best, start = _first(key, starts(view.lead, len(requests)), policy.shortlist_max)
    return Ranking(start, view.guide[best], score[best], seen, filtered)


def weights(policy: Policy) -> F32s:
    """The policy's weight of each feature, as shares of 1."""
    given = np.array([policy.weights[name] for name, _ in FEATURES])
    shares: F32s = (given / given.sum()).astype(np.float32)
    return shares


def scores(view: View) -> F32s:
    """The weighted mean of the features of each pair, 0..1; summed in the order of the list."""
    score = np.zeros(len(view), np.float32)
    for weight, (_, feature) in zip(weights(view.policy), FEATURES, strict=True):
        if weight:
            score += weight * feature(view)
    return score


def _eligible(view: View) -> tuple[View, I32s]:
    """The pairs that pass every filter that is on, and how many each filter refused, by lead."""
    n = len(view.requests)
    refused = np.zeros((n, len(ELIGIBILITY)), np.int32)
    passed = np.ones(len(view), np.bool_)
    for column, (name, allows) in enumerate(ELIGIBILITY):
        if name in view.policy.filters:
            allowed = allows(view)
            if not allowed.all():
                refused[:, column] = np.bincount(view.lead[passed & ~allowed], minlength=n)
                passed &= allowed
    return view.where(passed), refused


def _ties(view: View, seed: int) -> U32s:
    """A hash of lead, guide and seed, by the finaliser of MurmurHash3 (Appleby, public domain)."""
    tie = view.roster.guide_hash.take(view.guide)
    tie ^= (view.requests.member_hash ^ np.uint32(seed % 2**32)).take(view.lead)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        tie ^= tie >> np.uint32(shift)
        tie *= np.uint32(factor)
    return tie ^ tie >> np.uint32(16)


def _sort_key(score: F32s, tie: U32s) -> npt.NDArray[np.uint64]:
    """One integer per pair, lowest first: floats that are not negative compare as their bits do."""
    worst_first = score.view(np.uint32)
    return (~worst_first).astype(np.uint64) << _HALF | tie


def _first(key: npt.NDArray[np.uint64], start: I64s, most: int) -> tuple[Rows, I32s]:
    """The positions of the ``most`` lowest keys of each run, lowest first, and where each run's begin.

    Runs of about the same length are sorted together as a matrix, row by row, which numpy does in vectors.
    """
    length = np.diff(start)
    kept = np.minimum(length, most)
    out_start = np.concatenate(([0], np.cumsum(kept)))
    out = np.empty(int(out_start[-1]), np.int64)
    low, width = 0, most
    while low < length.max(initial=0):
        rows = np.flatnonzero((length > low) & (length <= width))
        if rows.size:
            column = np.arange(width)
            place = np.minimum(start[rows, None] + column, key.size - 1)
            matrix = np.where(column < length[rows, None], key[place], np.iinfo(np.uint64).max)
            best = _lowest(matrix, most)
            filled = np.arange(best.shape[1]) < kept[rows, None]
            out[(out_start[rows, None] + np.arange(best.shape[1]))[filled]] = (start[rows, None] + best)[
                filled
            ]
        low, width = width, width * 2
    return out, out_start.astype(np.int32)


def _lowest(matrix: npt.NDArray[np.uint64], most: int) -> Rows:
    """The columns of the ``most`` lowest entries of each row, lowest first."""
    if matrix.shape[1] <= 4 * most:
        return np.argsort(matrix, axis=1)[:, :most]
    few = np.argpartition(matrix, most, axis=1)[:, :most]
    order = np.argsort(np.take_along_axis(matrix, few, axis=1), axis=1)
    return np.take_along_axis(few, order, axis=1)

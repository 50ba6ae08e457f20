"""The best guides for each lead of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoring.arrays import F32s, I32s, I64s, Rows, U32s, U64s, before, gaps, true_at
from scoring.eligibility import ELIGIBILITY
from scoring.policy import Policy
from scoring.requests import Requests
from scoring.retrieve import runs
from scoring.roster import Roster
from scoring.score import Field, Scored, field

_HALF = np.uint64(32)
_NOBODY = np.iinfo(np.uint64).max


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
    n = len(requests)
    if not (requests.cell >= 0).any():  # as what has only happened to leads, which is most of what comes
        return _nobody(np.zeros(n, np.int32), np.zeros((n, len(ELIGIBILITY)), np.int32))
    met = field(requests, roster, policy, now_ms, runs(requests, roster, policy))
    if not met.per_lead.any():
        return _nobody(met.seen, met.filtered)
    likely = _likely_pairs(met, policy.shortlist_max)
    guide, score = likely.guide, likely.score
    tie = ties(requests, roster, likely.lead, guide, seed)
    best, start = _first(_sort_key(score, tie), likely.start, policy.shortlist_max)
    return Ranking(start, guide[best].astype(np.int32), score[best], met.seen, met.filtered)


def _nobody(seen: I32s, filtered: I32s) -> Ranking:
    """The ranking of leads for whom there is nobody: to work on columns of nothing takes its time as well."""
    none = np.empty(0, np.int32)
    return Ranking(np.zeros(seen.size + 1, np.int32), none, none.astype(np.float32), seen, filtered)


def ties(requests: Requests, roster: Roster, lead: Rows, guide: Rows, seed: int) -> U32s:
    """A hash of lead, guide and seed, by the finaliser of MurmurHash3 (Appleby, public domain)."""
    tie = roster.guide_hash.take(guide)
    tie ^= (requests.member_hash ^ np.uint32(seed % 2**32)).take(lead)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        tie ^= tie >> np.uint32(shift)
        tie *= np.uint32(factor)
    return tie ^ tie >> np.uint32(16)


def _likely_pairs(met: Field, most: int) -> Scored:
    """The pairs that may come into a shortlist, worked out block by block."""
    parts: list[Scored] = []
    for low, high in met.blocks():
        made = met.pairs(low, high)
        likely = _likely(made.score, made.start, most)
        parts.append(made.keep(likely))
    if len(parts) == 1:
        return parts[0]
    return Scored(
        # a block counts the pairs of its own leads only
        start=np.sum([part.start for part in parts], axis=0),
        lead=np.concatenate([part.lead for part in parts]),
        guide=np.concatenate([part.guide for part in parts]),
        score=np.concatenate([part.score for part in parts]),
    )


def _likely(score: F32s, start: I64s, most: int) -> Rows:
    """The positions of all scores that may be among the ``most`` highest of their run, ties included.

    Those who were refused are not among them. A long run is cut into pieces, twice ``most`` of about the same
    length: as many scores as pieces are no lower than the highest of their piece, so no score below the
    ``most`` highest of those can come in.
    """
    length = gaps(start)
    pieces = 2 * most
    long = true_at(length > pieces)
    if not long.size:
        return true_at(score >= 0)
    edge = start[long, None] + length[long, None] * np.arange(pieces + 1) // pieces
    # the last edge of a run is the first of what lies between it and the next one
    edge = edge.ravel()[: None if edge[-1, -1] < score.size else -1]
    highest = np.maximum.reduceat(score, edge)
    highest = np.append(highest, np.float32(0))[: long.size * (pieces + 1)].reshape(long.size, -1)[:, :-1]
    least = np.zeros(length.size, np.float32)
    least[long] = np.maximum(np.partition(highest, pieces - most, axis=1)[:, pieces - most], 0)
    return true_at(score >= least.repeat(length))


def _sort_key(score: F32s, tie: U32s) -> U64s:
    """One integer per pair, lowest first: floats that are not negative compare as their bits do."""
    worst_first = score.view(np.uint32)
    return (~worst_first).astype(np.uint64) << _HALF | tie


def _first(key: U64s, start: I64s, most: int) -> tuple[Rows, I32s]:
    """The positions of the ``most`` lowest keys of each run, lowest first, and where each run's begin."""
    length = gaps(start)
    kept = np.minimum(length, most)
    out_start = before(kept)
    out = np.empty(int(out_start[-1]), np.int64)
    low, width = 0, 2 * most
    while low < length.max(initial=0):
        rows = true_at((length > low) & (length <= width))
        if rows.size:
            column = np.arange(width)
            place = np.minimum(start[rows, None] + column, key.size - 1)
            matrix = np.where(column < length[rows, None], key[place], _NOBODY)
            best = start[rows, None] + np.argsort(matrix, axis=1)[:, :most]
            filled = column[:most] < kept[rows, None]
            out[(out_start[rows, None] + column[:most])[filled]] = best[filled]
        low, width = width, width * 2
    return out, out_start.astype(np.int32)

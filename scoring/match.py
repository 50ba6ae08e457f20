"""A batch matched together under the guides' room, so that the claim rarely needs a second choice.

Higher tiers go first; a lead that has waited counts as of a higher tier the longer it waits. Within a tier
those who have waited choose one by one in the order of their arrival, so that none is overtaken; then fresh
leads are matched as a whole, see `auction`. Where first choices do not meet in a full guide there is
nothing to solve.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scoring.arrays import Bools, F64s, I32s, I64s, Rows
from scoring.auction import Table, auction, in_turn
from scoring.policy import Policy
from scoring.rank import Ranking
from scoring.requests import TIERS, Requests
from scoring.roster import Roster


@dataclass(slots=True, eq=False)
class Matching:
    """Who is asked first for each of n leads, and in which order leads ask."""

    order: I64s  #: [n] rows of leads: those with a match first, by tier and arrival, then those without
    ranking: Ranking  #: the same, in each shortlist the match first
    matched: I32s  #: [n] row of the guide, -1


def match(ranking: Ranking, requests: Requests, roster: Roster, policy: Policy, now_ms: int) -> Matching:
    """Match a batch by its shortlists, on the loads the roster knows.

    Pure, and the same whatever the order of roster and batch. Time is bounded by ``match_rounds_max``
    rounds of bids for each tier, not by a clock, which scoring does not have, and which would make a rerun
    differ.
    """
    column = _columns(ranking, requests, roster, policy, now_ms)
    start = ranking.start[:-1].astype(np.int64)
    has = column >= 0
    matched = np.full(column.size, -1, np.int32)
    matched[has] = ranking.guide_row[start[has] + column[has]]
    moved = np.flatnonzero(column > 0)
    entry = np.arange(ranking.guide_row.size)
    if moved.size:
        # the match comes first, those before it move back by one
        lead = np.repeat(np.arange(column.size), np.diff(ranking.start))
        place = entry - start[lead]
        chosen = column[lead]
        entry = start[lead] + np.where(place == 0, np.maximum(chosen, 0), place - (place <= chosen))
    tier = _standing(requests, policy, now_ms)
    order = np.lexsort((requests.member_hash, requests.arrival_ms, tier, ~has))
    asked = replace(ranking, guide_row=ranking.guide_row[entry], score=ranking.score[entry])
    return Matching(order, asked, matched)


def _columns(ranking: Ranking, requests: Requests, roster: Roster, policy: Policy, now_ms: int) -> I64s:
    """The place in the shortlist of the guide that each lead gets, -1 for none."""
    length = np.diff(ranking.start)
    column = np.where(length > 0, 0, -1).astype(np.int64)
    if not ranking.guide_row.size:
        return column
    guides, number = np.unique(ranking.guide_row, return_inverse=True)
    capacity = roster.guide_capacity[guides]
    room = np.maximum(capacity - roster.guide_load[guides], 0)
    kept = np.floor(capacity * np.float64(policy.reserve_top)).astype(np.int32)
    first = number[ranking.start[:-1][length > 0]]
    if not policy.reserve_top and (np.bincount(first, minlength=guides.size) <= room).all():
        return column
    room, kept = np.append(room, np.int32(0)), np.append(kept, np.int32(0))
    table = _table(ranking, requests, number, guides.size)
    tier = _standing(requests, policy, now_ms)
    waited = requests.waits | (now_ms - requests.arrival_ms >= policy.fresh_s * 1000)
    for level in np.unique(tier).tolist():
        for some, fresh in ((waited, False), (~waited, True)):
            leads = np.flatnonzero((tier == level) & some & (length > 0))
            if leads.size:
                part = Table(table.score[leads], table.guide[leads], table.tie[leads])
                usable = room if level == 0 else np.maximum(room - kept, 0)
                if fresh:
                    column[leads] = auction(part, usable, policy.match_rounds_max)
                else:
                    column[leads] = in_turn(part, usable, _arrival(requests, leads, part))
                taken = leads[column[leads] >= 0]
                room = room - np.bincount(table.guide[taken, column[taken]], minlength=room.size)
    return column


def _standing(requests: Requests, policy: Policy, now_ms: int) -> I64s:
    """The place of each lead's tier in the policy's order, less one for each ``age_up_s`` it has waited."""
    places = np.array([policy.tier_order.index(tier) for tier in TIERS])
    up = np.maximum(now_ms - requests.arrival_ms, 0) // (policy.age_up_s * 1000)
    standing: I64s = np.maximum(places[requests.tier] - up, 0)
    return standing


def _arrival(requests: Requests, leads: Rows, part: Table) -> F64s:
    arrival: F64s = requests.arrival_ms[leads].astype(np.float64)
    return np.broadcast_to(arrival[:, None], part.score.shape)


def _table(ranking: Ranking, requests: Requests, number: Rows, nobody: int) -> Table:
    """Shortlists as a matrix."""
    n, width = len(requests), int(np.diff(ranking.start).max(initial=0))
    score = np.full((n, width), -1.0)
    guide = np.full((n, width), nobody, np.int64)
    there: Bools = np.arange(width) < np.diff(ranking.start)[:, None]
    score[there], guide[there] = ranking.score, number
    return Table(score, guide, requests.member_hash)

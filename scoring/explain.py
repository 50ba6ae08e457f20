"""Why a lead went where it went, and why it did not go to somebody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from scoring.arrays import Bools, F32s, I32s, Rows
from scoring.eligibility import ELIGIBILITY
from scoring.features import FEATURES
from scoring.policy import Policy
from scoring.rank import Ranking
from scoring.requests import Requests
from scoring.retrieve import candidates, km_to_guides
from scoring.roster import Roster
from scoring.score import scores, weights
from scoring.view import View

T = TypeVar("T", np.int32, np.float32)


@dataclass(slots=True, eq=False)
class Reasons:
    """What the entries of a ranking are made of, taken before the claim: later the roster may differ."""

    ranking: Ranking
    contributions: F32s  #: [entries, features] share of the weight x feature, in the order of FEATURES


@dataclass(slots=True, eq=False)
class Explanation:
    """For n leads; all zeros and -1 for a lead without a winner."""

    winner: I32s  #: [n] row of the guide, -1
    score: F32s  #: [n] of the winner, 0..1
    contributions: F32s  #: [n, features] of the winner, in the order of FEATURES; sums to score
    runner_up: I32s  #: [n, runners_up] rows of the best of the shortlist besides the winner, -1
    runner_up_score: F32s  #: [n, runners_up]
    margin: F32s  #: [n, runners_up] winner's score less the runner-up's; below 0: they were full


@dataclass(frozen=True, slots=True)
class WhyNot:
    """Why a lead did not go to a guide: one of the three is the reason.

    ``filter``: the first that refused. ``unseen``: never looked at, being of another cell or too far. Else
    ``margin``, by which the winner's score was higher, and ``feature``, which cost the most of it; margin 0
    or below: the guide was no worse, but full, or the lead went by the match or by the hash.
    """

    filter: str | None = None
    unseen: bool = False
    margin: float = 0.0
    feature: str | None = None


def reasons(ranking: Ranking, requests: Requests, roster: Roster, policy: Policy, now_ms: int) -> Reasons:
    """Work out what every entry of a ranking is made of."""
    if not ranking.guide_row.size:
        return Reasons(ranking, np.zeros((0, len(FEATURES)), np.float32))
    lead = np.repeat(np.arange(len(requests), dtype=np.int32), np.diff(ranking.start))
    return Reasons(ranking, contributions(_view(requests, roster, policy, now_ms, lead, ranking.guide_row)))


def contributions(view: View) -> F32s:
    """Share of the weight x feature for each pair, [pairs, features]."""
    shares = np.zeros((len(view), len(FEATURES)), np.float32)
    for column, (weight, feature) in enumerate(zip(weights(view.policy), FEATURES, strict=True)):
        if weight:
            shares[:, column] = weight * feature.value(view)
    return shares


def explain(why: Reasons, runners_up: int, rows: I32s | None = None) -> Explanation:
    """Explain a ranking once it is known who won.

    ``rows`` [n]: the guide whom the claim gave each lead, -1 for nobody; by default the first of the
    shortlist. A guide who is not in the shortlist has no contributions.
    """
    ranking = why.ranking
    first, end = ranking.start[:-1], ranking.start[1:]
    n = first.size
    if rows is None:
        rows = _pick(ranking.guide_row, first, first < end, np.int32(-1))
    lead = np.repeat(np.arange(n), end - first)
    entry = np.flatnonzero(ranking.guide_row == rows[lead])
    won = lead[entry]
    shares = np.zeros((n, len(FEATURES)), np.float32)
    shares[won] = why.contributions[entry]
    score = np.zeros(n, np.float32)
    score[won] = ranking.score[entry]
    others, other_scores = _others(ranking, rows, runners_up)
    margin = np.where(others >= 0, score[:, None] - other_scores, np.float32(0))
    return Explanation(rows.astype(np.int32), score, shares, others, other_scores, margin)


def why_not(  # noqa: PLR0913 - a lead of a batch, a guide, who won
    requests: Requests, roster: Roster, policy: Policy, now_ms: int, *, lead: int, guide: int, winner: int
) -> WhyNot:
    """Why a lead went to ``winner`` (-1: to nobody) and not to ``guide``, rows of the roster."""
    rows = np.array([guide] if winner < 0 else [guide, winner], np.int32)
    view = _view(requests, roster, policy, now_ms, np.full(rows.size, lead, np.int32), rows)
    for each in ELIGIBILITY:
        if each.name in policy.filters and not each.allows(view)[0]:
            return WhyNot(filter=each.name)
    found = candidates(requests, roster, policy)
    if guide not in found.guide_row[found.lead_row == lead]:
        return WhyNot(unseen=True)
    if winner < 0 or winner == guide:
        return WhyNot()
    shares, score = contributions(view), scores(view)
    costly = int(np.argmax(shares[1] - shares[0]))
    return WhyNot(margin=float(score[1] - score[0]), feature=FEATURES[costly].name)


def _view(requests: Requests, roster: Roster, policy: Policy, now_ms: int, lead: Rows, guide: Rows) -> View:  # noqa: PLR0913, PLR0917 - all that a view is of
    return View(requests, roster, policy, now_ms, lead, guide, km_to_guides(requests, roster, lead, guide))


def _others(ranking: Ranking, winner: I32s, most: int) -> tuple[I32s, F32s]:
    """The best ``most`` of each shortlist besides the winner, and their scores."""
    entry = ranking.start[:-1, None] + np.arange(most + 1)
    there = (entry < ranking.start[1:, None]) & (winner >= 0)[:, None]
    guide = _pick(ranking.guide_row, entry, there, np.int32(-1))
    score = _pick(ranking.score, entry, there, np.float32(0))
    # The winner moves behind the others, where the one column too many is cut off.
    order = np.argsort(guide == winner[:, None], axis=1, kind="stable")[:, :most]
    return np.take_along_axis(guide, order, axis=1), np.take_along_axis(score, order, axis=1)


def _pick(column: npt.NDArray[T], entry: Rows, there: Bools, otherwise: T) -> npt.NDArray[T]:
    """The entries of a column that are there, in the shape of ``entry``."""
    picked = np.full(entry.shape, otherwise)
    picked[there] = column[entry[there]]
    return picked

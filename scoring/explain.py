"""Why a lead went where it went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from scoring.arrays import Bools, F32s, I32s, Rows
from scoring.features import FEATURES
from scoring.policy import Policy
from scoring.rank import Ranking, weights
from scoring.requests import Requests
from scoring.retrieve import km_to_guides
from scoring.roster import Roster
from scoring.view import View

T = TypeVar("T", np.int32, np.float32)


@dataclass(slots=True, eq=False)
class Explanation:
    """For n leads; all zeros and -1 for a lead without a winner."""

    winner: I32s  #: [n] row of the guide, -1
    score: F32s  #: [n] of the winner, 0..1
    contributions: (
        F32s  #: [n, features] share of the weight x feature, in the order of FEATURES; sums to score
    )
    runner_up: I32s  #: [n, runners_up] rows of the best of the shortlist besides the winner, -1
    runner_up_score: F32s  #: [n, runners_up]
    margin: F32s  #: [n, runners_up] winner's score less the runner-up's; below 0: the claim found them full


def explain(  # noqa: PLR0913 - a ranking, what it was made from, and who won
    ranking: Ranking,
    requests: Requests,
    roster: Roster,
    policy: Policy,
    now_ms: int,
    *,
    rows: I32s | None = None,
) -> Explanation:
    """Explain a ranking.

    ``rows`` [n]: the guide whom the claim gave each lead, -1 for nobody; by default the first of the
    shortlist. Contributions sum to the score of `rank` only while the roster's load is still what it was.
    """
    n = len(requests)
    if rows is None:
        first = ranking.start[:-1]
        rows = _pick(ranking.guide_row, first, first < ranking.start[1:], np.int32(-1))
    winner = rows
    lead = np.flatnonzero(winner >= 0)
    guide = winner[lead]
    view = View(requests, roster, policy, now_ms, lead, guide, km_to_guides(requests, roster, lead, guide))
    contributions = np.zeros((n, len(FEATURES)), np.float32)
    score = np.zeros(n, np.float32)
    for column, (weight, (_, feature)) in enumerate(zip(weights(policy), FEATURES, strict=True)):
        contributions[lead, column] = weight * feature(view)
        score += contributions[:, column]
    others, other_scores = _others(ranking, winner, policy.runners_up)
    margin = np.where(others >= 0, score[:, None] - other_scores, np.float32(0))
    return Explanation(winner.astype(np.int32), score, contributions, others, other_scores, margin)


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

"""Why assignments came out as they did, as records for those who may ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from router.rules.intake import Request
from router.rules.offers import Answer
from scoring.eligibility import ELIGIBILITY
from scoring.explain import Explanation
from scoring.features import FEATURES
from scoring.rank import Ranking
from scoring.roster import Roster
from topics.assignments import Assignment, Decision, RunnerUp

_FILTERS = [each.name for each in ELIGIBILITY]
_FEATURES = [each.name for each in FEATURES]


def winners(
    batch: Sequence[Request], answers: Sequence[Answer], roster: Roster
) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """The roster row of each lead's guide by these answers, -1 for those who wait."""
    rows = np.full(len(batch), -1, np.int32)
    guides = [(row, answer.guide_id) for row, answer in enumerate(answers) if answer.guide_id]
    brands = [batch[row].event.brand for row, _ in guides]
    rows[[row for row, _ in guides]] = roster.guide_ids.rows(brands, [guide_id for _, guide_id in guides])
    return rows


def decision(made: Assignment, row: int, ranking: Ranking, why: Explanation, roster: Roster) -> Decision:
    """The reasons of one fresh assignment, which is row ``row`` of its batch."""
    filters = {
        name: count for name, count in zip(_FILTERS, ranking.filtered[row].tolist(), strict=True) if count
    }
    common: dict[str, Any] = {
        "brand": made.brand,
        "lead_id": made.lead_id,
        "kind": made.kind,
        "seq": made.seq,
        "attempt": made.attempt,
        "at_ms": made.at_ms,
        "member_id": made.member_id,
        "policy_version": made.policy_version,
        "candidates": int(ranking.seen[row]),
        "filters": filters,
    }
    if made.guide_id is None:
        return Decision(**common, queue=made.queue)
    runners_up = tuple(
        RunnerUp(guide_id=roster.guide_ids[guide], score=round(score, 4), margin=round(margin, 4))
        for guide, score, margin in zip(
            why.runner_up[row].tolist(),
            why.runner_up_score[row].tolist(),
            why.margin[row].tolist(),
            strict=True,
        )
        if guide >= 0
    )
    shares = np.round(why.contributions[row].astype(np.float64), 4)
    contributions = dict(zip(_FEATURES, shares.tolist(), strict=True))
    return Decision(
        **common,
        guide_id=made.guide_id,
        score=round(float(why.score[row]), 4),
        contributions=contributions,
        runners_up=runners_up,
    )

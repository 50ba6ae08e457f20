"""Why assignments came out as they did, as records for those who may ask."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from router.rules.intake import Request
from router.rules.offers import Answer
from scoring.arrays import F32s
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
    guides = [(row, step.guide_id or "") for row, answer in enumerate(answers) if (step := answer.offered)]
    brands = [batch[row].event.brand for row, _ in guides]
    rows[[row for row, _ in guides]] = roster.guide_ids.rows(brands, [guide_id for _, guide_id in guides])
    return rows


class Reasons:
    """The reasons of a batch, taken out of its columns at once; ``decision`` makes a record of one row."""

    def __init__(self, ranking: Ranking, why: Explanation, roster: Roster) -> None:
        there = why.runner_up >= 0
        names = iter(roster.guide_ids.take(why.runner_up[there]))
        self._others = [list(islice(names, count)) for count in there.sum(axis=1).tolist()]
        self._other_scores = _rounded(why.runner_up_score)
        self._margins = _rounded(why.margin)
        self._scores = _rounded(why.score)
        self._contributions = _rounded(why.contributions)
        self._seen = ranking.seen.tolist()
        self._filtered = ranking.filtered.tolist()

    def decision(self, made: Assignment, row: int) -> Decision:
        """The reasons of one fresh assignment, which is row ``row`` of its batch."""
        filters = {name: count for name, count in zip(_FILTERS, self._filtered[row], strict=True) if count}
        common: dict[str, Any] = {
            "brand": made.brand,
            "lead_id": made.lead_id,
            "kind": made.kind,
            "seq": made.seq,
            "attempt": made.attempt,
            "at_ms": made.at_ms,
            "member_id": made.member_id,
            "policy_version": made.policy_version,
            "candidates": self._seen[row],
            "filters": filters,
        }
        if made.guide_id is None:
            return Decision(**common, queue=made.queue)
        # who was a runner-up comes first in its row
        others = zip(self._others[row], self._other_scores[row], self._margins[row], strict=False)
        return Decision(
            **common,
            guide_id=made.guide_id,
            score=self._scores[row],
            contributions=dict(zip(_FEATURES, self._contributions[row], strict=True)),
            runners_up=tuple(
                RunnerUp(guide_id=name, score=score, margin=margin) for name, score, margin in others
            ),
        )


def _rounded(column: F32s) -> Any:  # noqa: ANN401 - as many lists in lists as the column has axes
    return np.round(column.astype(np.float64), 4).tolist()

"""Pairs of a lead and a guide with the columns of both sides at hand: what filters and features read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scoring.arrays import Bools, F32s, I32s, Rows
from scoring.requests import NO_NEED, UNKNOWN_NEED, Requests
from scoring.roster import Roster

if TYPE_CHECKING:
    # The policy checks the names of features, which are functions of a view.
    from scoring.policy import Policy


@dataclass(eq=False)
class View:
    """p pairs; ``lead`` and ``guide`` are rows of ``requests`` and ``roster``."""

    requests: Requests
    roster: Roster
    policy: Policy
    now_ms: int
    lead: Rows
    guide: Rows
    km: F32s

    def __len__(self) -> int:
        """How many pairs."""
        return self.lead.size

    def where(self, mask: Bools) -> View:
        """The pairs that a mask keeps."""
        kept = np.flatnonzero(mask)
        lead, guide, km = self.lead.take(kept), self.guide.take(kept), self.km.take(kept)
        return View(self.requests, self.roster, self.policy, self.now_ms, lead, guide, km)

    @cached_property
    def store(self) -> I32s:
        """The row of each guide's store."""
        return self.roster.guide_store.take(self.guide)

    @cached_property
    def needs(self) -> I32s:
        """How many needs each lead has."""
        count = (self.requests.need_tags != NO_NEED).sum(axis=1, dtype=np.int32)
        needs: I32s = count.take(self.lead)
        return needs

    @cached_property
    def levels(self) -> tuple[npt.NDArray[np.int8], I32s]:
        """The lowest level, 0..5, that each guide has in any of the lead's needs, and the sum of all levels.

        Without needs the lowest is 5 and the sum 0.
        """
        lowest, total = np.full(len(self), 5, np.int8), np.zeros(len(self), np.int32)
        skills = self.roster.guide_skills
        for need in self.requests.need_tags.T:
            pairs = np.flatnonzero((need != NO_NEED).take(self.lead))
            tag = np.where(need == UNKNOWN_NEED, skills.shape[1] - 1, need).take(self.lead[pairs])
            level = skills[self.guide[pairs], tag]
            lowest[pairs] = np.minimum(lowest[pairs], level)
            total[pairs] += level
        return lowest, total

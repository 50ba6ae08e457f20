"""Leads, stores and guides with the columns of each at hand: what filters and features read.

A filter or feature says the *grain* at which it varies, and is worked out once for each guide, for each lead and store, or
for each lead and guide. It reads no more of a view than its grain has, so it may be asked about pairs too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from scoring.arrays import Bools, F32s, I8s, I32s, Rows, U8s
from scoring.requests import NO_NEED, UNKNOWN_NEED, Requests
from scoring.roster import LEVEL_BITS, PREFERS_BIT, Roster

if TYPE_CHECKING:
    # The policy checks the names of features, which are functions of a view.
    from scoring.policy import Policy


class Grain(Enum):
    """What a value hangs on: the guide alone; the lead and the store; the lead and the guide."""

    GUIDE = "guide"
    STORE = "store"
    PAIR = "pair"


@dataclass(eq=False)
class View:
    """p guides, leads with stores, or leads with guides; rows of ``requests`` and ``roster``."""

    requests: Requests
    roster: Roster
    policy: Policy
    now_ms: int
    lead: Rows  #: none at the grain of guides
    guide: Rows  #: none at the grain of stores
    km: F32s  #: from the lead's place to the store; none at the grain of guides
    stores: Rows | None = None  #: at the grain of stores

    def __len__(self) -> int:
        """How many."""
        return self.guide.size if self.stores is None else self.stores.size

    def where(self, mask: Bools) -> View:
        """The pairs that a mask keeps."""
        kept = np.flatnonzero(mask)
        km = self.km.take(kept) if self.km.size else self.km
        lead, guide = self.lead.take(kept), self.guide.take(kept)
        return View(self.requests, self.roster, self.policy, self.now_ms, lead, guide, km)

    @cached_property
    def store(self) -> I32s:
        """The row of each store."""
        return self.roster.guide_store.take(self.guide) if self.stores is None else self.stores

    @cached_property
    def zones(self) -> U8s:
        """The price zones of each guide."""
        return self.roster.guide_zones.take(self.guide)

    @cached_property
    def level(self) -> U8s:
        """The level of each guide, 1..10."""
        return self.roster.guide_level.take(self.guide)

    @cached_property
    def is_owner(self) -> Bools:
        """Whether the member belongs to the guide."""
        return self.requests.owner_row.take(self.lead) == self.guide

    @cached_property
    def needs(self) -> I32s:
        """How many needs each lead has."""
        return self.requests.need_count.take(self.lead)

    @cached_property
    def skills(self) -> tuple[I8s, I32s, I32s]:
        """Of each guide in the lead's needs: the lowest level, 0..5, the sum of levels, how many are preferred.

        Without needs the lowest is 5 and the others 0.
        """
        lowest = np.full(len(self), 5, np.int8)
        total, preferred = np.zeros(len(self), np.int32), np.zeros(len(self), np.int32)
        skills = self.roster.guide_skills
        for need in self.requests.need_tags.T:
            asked = need != NO_NEED
            if not asked.any():
                continue
            pairs = np.flatnonzero(asked.take(self.lead))
            tag = np.where(need == UNKNOWN_NEED, skills.shape[1] - 1, need).take(self.lead[pairs])
            bits = skills[self.guide[pairs], tag]
            level = bits & LEVEL_BITS
            lowest[pairs] = np.minimum(lowest[pairs], level)
            total[pairs] += level
            preferred[pairs] += bits >= PREFERS_BIT
        return lowest, total, preferred

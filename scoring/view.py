"""Leads, stores and guides with the columns of each at hand: what filters and features read.

A filter or feature says the *grain* at which it varies, and is worked out once for each guide, for each lead
and store, or for each lead and guide. It reads no more of a view than its grain has, so it may be asked about
pairs too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from scoring.arrays import Bools, F32s, I8s, I32s, I64s, Rows, U8s
from scoring.requests import NO_NEED, Requests
from scoring.roster import LEVEL_BITS, Roster

if TYPE_CHECKING:
    # The policy checks the names of features, which are functions of a view.
    from scoring.policy import Policy


T = TypeVar("T", bound=np.generic)


class Grain(Enum):
    """What a value hangs on: the guide alone; the lead and the store; the lead and the guide."""

    GUIDE = "guide"
    STORE = "store"
    PAIR = "pair"


class Skills(NamedTuple):
    """Of each guide in the lead's needs, of which there are 16 at most."""

    lowest: I8s  #: level, 0..5; 7 without needs
    total: I8s  #: sum of levels; 0 without needs
    preferred: I8s  #: how many the guide prefers

    def and_also(self, other: Skills) -> Skills:
        """With those in one need more."""
        lowest = np.minimum(self.lowest, other.lowest)
        return Skills(lowest, self.total + other.total, self.preferred + other.preferred)


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
    guides: View | None = None  #: each guide of the pairs once, if the caller has them at hand,
    at: Rows | None = None  #: and where each pair's guide is among them
    per_lead: I64s | None = None  #: how many of these each request has, if they ascend by lead
    #: What `per_guide` has worked out of these guides.
    known: dict[Any, Any] = field(init=False, default_factory=dict)

    def __len__(self) -> int:
        """How many."""
        return self.guide.size if self.stores is None else self.stores.size

    @property
    def at_ms(self) -> int:
        """When the guide has to be there, epoch ms: at a visit, else now."""
        return max(self.now_ms, self.requests.visit_ms)

    @cached_property
    def store(self) -> I32s:
        """The row of each store."""
        return self.roster.guide_store.take(self.guide) if self.stores is None else self.stores

    def of_lead(self, column: npt.NDArray[T]) -> npt.NDArray[T]:
        """A value of each request, handed to these; repeating is several times as fast as looking up."""
        return column.take(self.lead) if self.per_lead is None else column.repeat(self.per_lead)

    def per_guide(self, value: Callable[[View], npt.NDArray[T]]) -> npt.NDArray[T]:
        """A value at the grain of guides, worked out once: for each of ``guides``, else for these."""
        view = self if self.guides is None else self.guides
        if value not in view.known:
            view.known[value] = value(view)
        values: npt.NDArray[T] = view.known[value]
        return values

    def of_guide(self, value: Callable[[View], npt.NDArray[T]]) -> npt.NDArray[T]:
        """A value at the grain of guides, worked out once for each guide and handed to the pairs."""
        values = self.per_guide(value)
        return values if self.at is None else values.take(self.at)

    @cached_property
    def zones(self) -> U8s:
        """The price zones of each guide."""
        return self.of_guide(_zones)

    @cached_property
    def level(self) -> U8s:
        """The level of each guide, 1..10."""
        return self.of_guide(_level)

    @cached_property
    def is_owner(self) -> Bools:
        """Whether the member belongs to the guide."""
        owned: Bools = self.of_lead(self.requests.owner_row.astype(np.int64)) == self.guide
        return owned

    @cached_property
    def skills(self) -> Skills:
        """What each guide knows of the lead's needs; one look-up for each pair and column of needs."""
        by_tag = self.roster.guide_skills.T
        flat, rows = by_tag.ravel(), np.int64(by_tag.shape[1])
        known: Skills | None = None
        for need in self.requests.need_tags.T:
            # the last column is of no tag: nobody knows it
            tag = np.where(need < 0, len(by_tag) - 1, need) * rows
            bits = flat.take(self.of_lead(tag) + self.guide)
            level = bits & np.int8(LEVEL_BITS)
            # without a need no level is too low
            enough = np.where(need == NO_NEED, np.int8(LEVEL_BITS), np.int8(0))
            lowest = level | self.of_lead(enough) if enough.any() else level
            this = Skills(lowest, level, bits >> np.int8(LEVEL_BITS.bit_length()))
            known = this if known is None else known.and_also(this)
        none = np.zeros(len(self), np.int8)
        return known or Skills(none + np.int8(LEVEL_BITS), none, none)


def _zones(view: View) -> U8s:
    return view.roster.guide_zones.take(view.guide)


def _level(view: View) -> U8s:
    return view.roster.guide_level.take(view.guide)

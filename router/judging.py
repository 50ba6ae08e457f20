"""Whom the requests of a batch suit: grouped by what rules them, ranked and matched group by group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from router.reference import Reference
from router.rules.intake import Request
from router.rules.placing import Home, Proposal, proposals, settle
from scoring.match import Matching, match
from scoring.policy import Policy
from scoring.rank import Ranking, rank
from scoring.requests import Requests, columns, tier_numbers
from scoring.roster import Roster
from topics.fields import Tier


class Group(NamedTuple):
    """Requests that are ranked together: one policy rules them, and they are for the same time."""

    policy: Policy
    batch: list[Request]
    wanted: Requests
    #: The one whose rows ``wanted`` holds: columns may be laid out anew while Redis is asked.
    roster: Roster


class Judged(NamedTuple):
    """A group as it is ranked and matched."""

    group: Group
    homes: list[Home]
    tiers: list[Tier]
    ranking: Ranking
    matching: Matching


def together(groups: Iterable[Group]) -> list[Request]:
    """The requests of groups, end to end."""
    return [request for group in groups for request in group.batch]


@dataclass(frozen=True, slots=True)
class Judging:
    """Judges by what is known here; Redis decides."""

    reference: Reference

    def groups(self, requests: Sequence[Request]) -> list[Group]:
        """Requests by what rules them, as columns."""
        roster = self.reference.roster
        return [
            Group(policy, batch, columns([request.event for request in batch], roster), roster)
            for policy, batch in self.reference.by_policy(requests)
        ]

    def proposals(self, groups: Sequence[Group]) -> list[Proposal]:
        """The cells that the groups' requests should get, end to end."""
        return [
            each
            for policy, batch, wanted, roster in groups
            for each in proposals(batch, wanted, roster, policy)
        ]

    def judge(self, groups: Sequence[Group], homes: Sequence[Home], now_ms: int) -> list[Judged]:
        """Rank and match each group; ``homes`` are those of the groups' requests, end to end."""
        rest, out = iter(homes), []
        for group in groups:
            policy, batch, wanted, roster = group
            its = list(islice(rest, len(batch)))
            settle(wanted, batch, its, roster, policy, now_ms)
            tiers = self.reference.tiers(batch)
            wanted.tier = tier_numbers(tiers)
            ranking = rank(wanted, roster, policy, now_ms)
            out.append(Judged(group, its, tiers, ranking, match(ranking, wanted, roster, policy, now_ms)))
        return out

"""The story of a batch, from top to bottom. Read this first.

Records come in, requests come out of them; each gets a cell, candidates, a ranking, a match and a claim;
what was decided, and why, is published; only then does the caller acknowledge.
Bad records are set aside, an outage or a bug is raised: ``router.delivery`` says what happens then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from router.errors import OutageError
from router.merging import Merging
from router.moving import Moving
from router.outbox import Outbox
from router.publish import Outgoing, Publisher
from router.reference import Reference
from router.rules.intake import NOWHERE, Record, Refusal, Request, decoded, read
from router.rules.meeting import identity_of
from router.rules.offers import Answer, Offer
from router.rules.placing import (
    Home,
    Proposal,
    at_home,
    at_visit,
    claim_order,
    offers,
    proposals,
    put_back,
    settle,
    waves,
)
from router.rules.reasons import winners
from router.rules.responding import lead_of, outcomes
from router.state.arbiter import Arbiter, Gone, Past
from scoring.explain import Reasons, explain, reasons
from scoring.match import Matching, match
from scoring.policy import Policy
from scoring.rank import Ranking, rank
from scoring.requests import Requests, columns, tier_numbers
from topics.catalog import LEADS, RESERVATIONS, Topic
from topics.fields import Tier
from topics.responses import Response

#: After how long a response that came before its lead is read again.
EARLY_MS = 2_000


@dataclass(frozen=True, slots=True)
class Routed:
    """What became of a batch: every request has its answer, every other record its refusal."""

    refusals: Sequence[Refusal]
    requests: list[Request] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


class Group(NamedTuple):
    """Requests that are ranked together: one policy rules them, and they are for the same time."""

    policy: Policy
    batch: list[Request]
    wanted: Requests


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
class Flow:
    """The steps of the way and the parts they touch."""

    reference: Reference
    arbiter: Arbiter
    publisher: Publisher
    outbox: Outbox
    merging: Merging = field(init=False)
    moving: Moving = field(init=False)

    def __post_init__(self) -> None:
        """Make the steps that look up more than one lead at a time."""
        object.__setattr__(self, "merging", Merging(self.arbiter, self.reference))
        object.__setattr__(self, "moving", Moving(self.arbiter, self.reference))

    async def route(self, topic: Topic, records: Sequence[Record]) -> Routed:
        """Route a batch of leads or reservations; when this returns the broker has every result."""
        requests, refusals = read(topic, records)
        if topic is LEADS:
            requests = await self.merging.merge(self.reference.marked(requests))
        routed, out = Routed(refusals), []
        # what a version of a reservation is hangs on the ones before it
        for some in waves(requests, identity_of) if topic is RESERVATIONS else [requests]:
            fit, left = await self._versions(some, refusals) if topic is RESERVATIONS else (some, [])
            groups = self._groups(fit)
            batch, asked = together(groups), self._proposals(groups)
            homes, now_ms = await self.arbiter.fix_cells(
                self.moving.kept(batch, asked), self.reference.in_charge
            )
            out += await self._place(groups, at_home(batch, homes), now_ms, routed)
            out = await self._arrive(left, out)
        await self.publisher.publish([*self.outbox.dead_letters(refusals), *out])
        return routed

    async def _versions(
        self, requests: Sequence[Request], refusals: list[Refusal]
    ) -> tuple[list[Request], list[Gone]]:
        """What each version of a reservation is, a new one or a change of what is known; who has left."""
        leads = [(r.event.brand, r.event.member_id, r.kind, r.lead_id) for r in requests]
        pasts, now_ms = await self.arbiter.recall(leads)
        booked, unfit = await self.moving.book(requests, pasts, now_ms)
        refusals += unfit
        return booked, await self.moving.leave(booked, now_ms)

    async def follow(self, records: Sequence[Record]) -> Routed:
        """Follow a batch of responses, by which a lead may be offered again: the same way from there on."""
        responses, refusals = decoded(Response, records)
        routed, out = Routed(refusals), []
        # what a response means hangs on the ones before it
        for some in waves(responses, lambda each: lead_of(each[0])):
            out += await self._follow(some, refusals, routed)
        await self.publisher.publish([*self.outbox.dead_letters(refusals), *out])
        await self.arbiter.tell_outcomes(outcomes(routed.requests, routed.answers))
        return routed

    async def _follow(
        self, responses: Sequence[tuple[Response, Record]], refusals: list[Refusal], routed: Routed
    ) -> list[Outgoing]:
        pasts, now_ms = await self.arbiter.recall([lead_of(response) for response, _ in responses])
        told = self.moving.understand(responses, pasts, now_ms)
        left = await self.moving.leave(told.requests, now_ms)
        groups = self._groups(told.requests)
        homes = await self.moving.homes(together(groups))
        out = await self._place(groups, homes, now_ms, routed)
        out = await self._arrive(left, out)
        await self.arbiter.park(told.early, now_ms + EARLY_MS)
        refusals += told.refusals
        return out

    async def _arrive(self, left: Sequence[Gone], out: list[Outgoing]) -> list[Outgoing]:
        """Leads are at home in another cell once the broker has what tells so; what is left to publish."""
        if left:
            await self.publisher.publish(out)
            await self.arbiter.arrive(left)
        return [] if left else out

    async def placeable(self, drains: Sequence[tuple[Response, Past]], now_ms: int) -> list[Response]:
        """Those of some waiting leads for whom there is somebody with room, as far as is known here.

        Each names the guide who was found for it.
        """
        responses = [(drain, NOWHERE) for drain, _ in drains]
        told = self.moving.understand(responses, [past for _, past in drains], now_ms)
        groups = self._groups(told.requests)
        homes = await self.moving.homes(together(groups))
        found: list[Response] = []
        for each in self._judge(groups, homes, now_ms):
            matched = each.matching.matched
            chosen = [row for row in each.matching.order.tolist() if matched[row] >= 0]
            names = self.reference.roster.guide_ids.take(matched[chosen])
            for row, guide_id in zip(chosen, names, strict=True):
                move = each.group.batch[row].move
                if move is not None and move.response is not None:
                    found.append(replace(move.response, guide_id=guide_id))
        return found

    def _groups(self, requests: Sequence[Request]) -> list[Group]:
        return [
            Group(policy, batch, columns([request.event for request in batch], self.reference.roster))
            for policy, batch in self.reference.by_policy(requests)
        ]

    def _proposals(self, groups: Sequence[Group]) -> list[Proposal]:
        roster = self.reference.roster
        return [
            each for group in groups for each in proposals(group.batch, group.wanted, roster, group.policy)
        ]

    def _judge(self, groups: Sequence[Group], homes: Sequence[Home], now_ms: int) -> list[Judged]:
        """Rank and match group by group; ``homes`` are those of the groups' requests, end to end."""
        roster, rest, out = self.reference.roster, iter(homes), []
        for group in groups:
            policy, batch, wanted = group.policy, group.batch, group.wanted
            its = list(islice(rest, len(batch)))
            settle(wanted, batch, its, roster, policy, now_ms)
            tiers = self.reference.tiers(batch)
            wanted.tier = tier_numbers(tiers)
            # who is there at the time of a visit may be elsewhere now
            ranking = rank(wanted, roster, *at_visit(batch, policy, now_ms))
            out.append(Judged(group, its, tiers, ranking, match(ranking, wanted, roster, policy, now_ms)))
        return out

    async def _place(
        self, groups: Sequence[Group], homes: Sequence[Home], now_ms: int, routed: Routed
    ) -> list[Outgoing]:
        roster, judged = self.reference.roster, self._judge(groups, homes, now_ms)
        asked: list[Offer] = []
        order: list[int] = []
        why: list[Reasons] = []
        for group, its, tiers, ranking, matching in judged:
            policy, batch, wanted = group
            # before the claim: while Redis decides, guides come and go and loads change
            why.append(reasons(ranking, wanted, roster, *at_visit(batch, policy, now_ms)))
            order += [len(asked) + row for row in claim_order(batch, matching.order)]
            asked += offers(batch, its, wanted, matching.ranking, roster, policy, tiers, now_ms)
        # every cell hears of the whole batch at once, however many groups it has
        answers = put_back(await self.arbiter.claim([asked[row] for row in order]), order)
        if any(answer.result == "stale" for answer in answers):
            raise OutageError("a lead has changed since it was looked at")
        batch = together(groups)
        self.reference.traffic.count(batch, answers)
        routed.requests.extend(batch)
        routed.answers.extend(answers)
        out: list[Outgoing] = []
        rest = iter(answers)
        for each, its_why in zip(judged, why, strict=True):
            batch = each.group.batch
            its_answers = list(islice(rest, len(batch)))
            won = winners(batch, its_answers, roster)
            explained = explain(its_why, each.group.policy.runners_up, won)
            out += self.outbox.results(batch, its_answers, each.ranking, explained, roster)
        return out

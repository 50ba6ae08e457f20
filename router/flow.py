"""The story of a batch, from top to bottom. Read this first.

Records come in, requests come out of them; each gets a cell, candidates, a ranking, a match and a claim;
what was decided, and why, is published; only then does the caller acknowledge.
Bad records are set aside, an outage or a bug is raised: ``router.delivery`` says what happens then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from msgspec.structs import replace

from router.errors import OutageError
from router.judging import Group, Judging, together
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
    at_home,
    claim_order,
    offers,
    put_back,
    waves,
)
from router.rules.reasons import winners
from router.rules.responding import lead_of, outcomes
from router.state.arbiter import Arbiter, Gone, Past
from scoring.explain import Reasons, explain, reasons
from topics.catalog import LEADS, RESERVATIONS, Topic
from topics.responses import Response

#: After how long a response that came before its lead is read again.
EARLY_MS = 2_000


@dataclass(frozen=True, slots=True)
class Routed:
    """What became of a batch: every request has its answer, every other record its refusal."""

    refusals: Sequence[Refusal]
    requests: list[Request] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Flow:
    """The steps of the way and the parts they touch."""

    reference: Reference
    arbiter: Arbiter
    publisher: Publisher
    outbox: Outbox
    merging: Merging = field(init=False)
    moving: Moving = field(init=False)
    judging: Judging = field(init=False)

    def __post_init__(self) -> None:
        """Make the steps that stand in modules of their own."""
        object.__setattr__(self, "merging", Merging(self.arbiter, self.reference))
        object.__setattr__(self, "moving", Moving(self.arbiter, self.reference))
        object.__setattr__(self, "judging", Judging(self.reference))

    async def route(self, topic: Topic, records: Sequence[Record]) -> Routed:
        """Route a batch of leads or reservations; when this returns the broker has every result."""
        requests, refusals = read(topic, records)
        if topic is LEADS:
            requests = await self.merging.merge(self.reference.marked(requests))
        routed, out = Routed(refusals), []
        # what a version of a reservation is hangs on the ones before it
        for some in waves(requests, identity_of) if topic is RESERVATIONS else [requests]:
            fit, left = await self._versions(some, refusals) if topic is RESERVATIONS else (some, [])
            groups = self.judging.groups(fit)
            batch, asked = together(groups), self.judging.proposals(groups)
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
        groups = self.judging.groups(told.requests)
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
        groups = self.judging.groups(told.requests)
        homes = await self.moving.homes(together(groups))
        found: list[Response] = []
        for each in self.judging.judge(groups, homes, now_ms):
            matched = each.matching.matched
            chosen = [row for row in each.matching.order.tolist() if matched[row] >= 0]
            names = each.group.roster.guide_ids.take(matched[chosen])
            for row, guide_id in zip(chosen, names, strict=True):
                move = each.group.batch[row].move
                if move is not None and move.response is not None:
                    found.append(replace(move.response, guide_id=guide_id))
        return found

    async def _place(
        self, groups: Sequence[Group], homes: Sequence[Home], now_ms: int, routed: Routed
    ) -> list[Outgoing]:
        judged = self.judging.judge(groups, homes, now_ms)
        asked: list[Offer] = []
        order: list[int] = []
        why: list[Reasons] = []
        for group, its, tiers, ranking, matching in judged:
            policy, batch, wanted, roster = group
            # before the claim: while Redis decides, guides come and go and loads change
            why.append(reasons(ranking, wanted, roster, policy, now_ms))
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
            policy, batch, _, roster = each.group
            its_answers = list(islice(rest, len(batch)))
            explained = explain(its_why, policy.runners_up, winners(batch, its_answers, roster))
            out += self.outbox.results(batch, its_answers, each.ranking, explained, roster)
        return out

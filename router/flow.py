"""The story of a batch, from top to bottom. Read this first.

Records come in, requests come out of them; each gets a cell, candidates, a ranking, a match and a claim;
what was decided, and why, is published; only then does the caller acknowledge.
Bad records are set aside, an outage or a bug is raised: ``router.delivery`` says what happens then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from router.outbox import Outbox
from router.publish import Outgoing, Publisher
from router.reference import Reference
from router.rules.intake import Record, Refusal, Request, read
from router.rules.offers import Answer
from router.rules.placing import claim_order, offers, proposals, put_back, settle
from router.rules.reasons import winners
from router.state.arbiter import Arbiter
from scoring.explain import explain, reasons
from scoring.match import match
from scoring.policy import Policy
from scoring.rank import rank
from scoring.requests import columns, tier_numbers
from topics.catalog import Topic


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

    async def route(self, topic: Topic, records: Sequence[Record]) -> Routed:
        """Route a batch of leads or reservations; when this returns the broker has every result."""
        requests, refusals = read(topic, records)
        routed = Routed(refusals)
        out = self.outbox.dead_letters(refusals)
        for policy, batch in self.reference.by_policy(requests):
            out += await self._place(batch, policy, routed)
        await self.publisher.publish(out)
        return routed

    async def _place(self, batch: list[Request], policy: Policy, routed: Routed) -> list[Outgoing]:
        roster = self.reference.roster
        wanted = columns([request.event for request in batch], roster)
        homes, now_ms = await self.arbiter.fix_cells(
            proposals(batch, wanted, roster, policy), partial(self.reference.in_charge, policy)
        )
        settle(wanted, batch, homes, roster)
        tiers = self.reference.tiers(batch)
        wanted.tier = tier_numbers(tiers)
        ranking = rank(wanted, roster, policy, now_ms)
        # before the claim: while Redis decides, guides come and go and loads change
        why = reasons(ranking, wanted, roster, policy, now_ms)
        matching = match(ranking, wanted, roster, policy, now_ms)
        asked = offers(batch, homes, wanted, matching.ranking, roster, policy, tiers, now_ms)
        order = claim_order(batch, matching.order)
        answers = put_back(await self.arbiter.claim([asked[row] for row in order]), order)
        explained = explain(why, policy.runners_up, winners(batch, answers, roster))
        self.reference.traffic.count(batch, answers)
        routed.requests.extend(batch)
        routed.answers.extend(answers)
        return self.outbox.results(batch, answers, ranking, explained, roster)

"""The story of a batch, from top to bottom. Read this first.

Records come in, requests come out of them; each gets a cell, candidates, a ranking, a match and a claim;
what was decided, and why, is published; only then does the caller acknowledge.
Bad records are set aside, an outage or a bug is raised: ``router.delivery`` says what happens then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from router.errors import OutageError
from router.outbox import Outbox
from router.publish import Outgoing, Publisher
from router.reference import Reference
from router.rules.intake import NOWHERE, Record, Refusal, Request, decoded, read
from router.rules.meeting import asked_for, first_of_each, identity_of, merged, named, whom
from router.rules.offers import Answer
from router.rules.placing import (
    Home,
    at_visit,
    claim_order,
    home_of,
    offers,
    proposals,
    put_back,
    settle,
    waves,
)
from router.rules.reasons import winners
from router.rules.responding import FURTHER, Understood, Whom, is_open, lead_of, outcomes, understand
from router.rules.widening import further, spot
from router.state.arbiter import Arbiter, Past
from scoring.explain import explain, reasons
from scoring.match import Matching, match
from scoring.policy import Policy
from scoring.rank import Ranking, rank
from scoring.requests import Requests, columns, tier_numbers
from topics.catalog import LEADS, RESERVATIONS, Topic
from topics.fields import Tier
from topics.reservations import Reservation
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

    async def route(self, topic: Topic, records: Sequence[Record]) -> Routed:
        """Route a batch of leads or reservations; when this returns the broker has every result."""
        requests, refusals = read(topic, records)
        if topic is LEADS:
            requests = await self._meet(self.reference.marked(requests))
        routed, out = Routed(refusals), []
        # what a version of a reservation is hangs on the ones before it
        for some in waves(requests, identity_of) if topic is RESERVATIONS else [requests]:
            fit = await self._versions(some, refusals) if topic is RESERVATIONS else some
            for policy, batch in self.reference.by_policy(fit):
                wanted = columns([request.event for request in batch], self.reference.roster)
                homes, now_ms = await self.arbiter.fix_cells(
                    proposals(batch, wanted, self.reference.roster, policy),
                    partial(self.reference.in_charge, policy),
                )
                out += await self._place(batch, wanted, homes, now_ms, policy, routed)
        await self.publisher.publish([*self.outbox.dead_letters(refusals), *out])
        return routed

    async def _meet(self, requests: list[Request]) -> list[Request]:
        """Merge each lead into the open one, if there is one, in which its member asks for the same."""
        rows = [row for row, each in enumerate(requests) if asked_for(each) and not each.over]
        windows = {
            row: self.reference.policy(requests[row].event.brand).merge_window_s * 1000 for row in rows
        }
        asked = {row: asked_for(requests[row]) for row in rows if windows[row]}
        met = await self.arbiter.meet([(requests[row], what, windows[row]) for row, what in asked.items()])
        suspects = {row: into for row, into in zip(asked, met, strict=True) if into}
        pasts, _ = await self.arbiter.recall([whom(requests[row], into) for row, into in suspects.items()])
        here = first_of_each(requests)
        out, again = list(requests), []
        for (row, into), past in zip(suspects.items(), pasts, strict=True):
            if is_open(past) or here.get(named(requests[row], into), row) < row:
                out[row] = merged(requests[row], into)
            else:
                again.append((requests[row], asked[row], windows[row]))
        await self.arbiter.meet(again, force=True)
        return out

    async def _versions(self, requests: Sequence[Request], refusals: list[Refusal]) -> list[Request]:
        """What each version of a reservation is: a new one, or a change of what is known."""
        leads = [(r.event.brand, r.event.member_id, r.kind, r.lead_id) for r in requests]
        pasts, now_ms = await self.arbiter.recall(leads)
        booked, unfit = self.reference.book(requests, pasts, now_ms)
        refusals += unfit
        return booked

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
        told = self._widened(understand(responses, pasts, now_ms, self.reference.policy))
        moves = await self._leave(told, now_ms)
        out: list[Outgoing] = []
        for policy, batch in self.reference.by_policy(told.requests):
            wanted = columns([request.event for request in batch], self.reference.roster)
            homes = await self._homes(batch, told, policy)
            out += await self._place(batch, wanted, homes, now_ms, policy, routed)
        await self.arbiter.arrive(moves)
        await self.arbiter.park(told.early, now_ms + EARLY_MS)
        refusals += told.refusals
        return out

    async def placeable(self, drains: Sequence[tuple[Response, Past]], now_ms: int) -> list[Response]:
        """Those of some waiting leads for whom there is somebody with room, as far as is known here."""
        told = understand(
            [(drain, NOWHERE) for drain, _ in drains],
            [past for _, past in drains],
            now_ms,
            self.reference.policy,
        )
        told = self._widened(told)
        found: list[Response] = []
        for policy, batch in self.reference.by_policy(told.requests):
            wanted = columns([request.event for request in batch], self.reference.roster)
            homes = await self._homes(batch, told, policy)
            _, matching, _ = self._judge(batch, wanted, homes, now_ms, policy)
            chosen = [row for row in matching.order.tolist() if matching.matched[row] >= 0]
            found += [move.response for row in chosen if (move := batch[row].move) is not None]
        return found

    def _widened(self, told: Understood) -> Understood:
        """Tell those who look further afield where: by which cell, around which place."""
        for row, request in enumerate(told.requests):
            move, here = request.move, self.reference.map_of(request.event.brand)
            if move is None or move.rung not in FURTHER or isinstance(request.event, Reservation):
                continue
            cell, rung = told.cells[request.cause], move.rung
            if move.cell is not None:
                rung, cell = further(request.event, cell, rung, here)
            around = spot(request.event, cell, rung, here)
            place = None if around is None else (around.lat, around.lon)
            move = replace(move, rung=rung, cell=cell if move.cell is not None else None, place=place)
            told.requests[row] = replace(request, move=move)
        return told

    async def _leave(self, told: Understood, now_ms: int) -> list[tuple[Whom, str, str, int]]:
        """Let waiting leads leave for other cells; whom, from where, for where, how often offered."""
        rows = [
            row
            for row, request in enumerate(told.requests)
            if request.move is not None and request.move.cell not in {None, told.cells[request.cause]}
        ]
        moves: list[tuple[Whom, str, str, int]] = []
        for row in rows:
            request = told.requests[row]
            whom = (request.event.brand, request.event.member_id, request.kind, request.lead_id)
            attempt = request.move.attempt if request.move is not None else None
            to = request.move.cell if request.move is not None else None
            moves.append((whom, told.cells[request.cause], to or "", attempt or 0))
        left: list[tuple[Whom, str, str, int]] = []
        for row, move, (to, brought) in zip(
            rows, moves, await self.arbiter.leave(moves, now_ms), strict=True
        ):
            request = told.requests[row]
            if request.move is not None:
                moved = replace(request.move, cell=to or None, brought=brought)
                told.requests[row] = replace(request, move=moved)
            if to:
                told.cells[request.cause] = to
                left.append((*move[:2], to, move[3]))
        return left

    async def _homes(self, batch: Sequence[Request], told: Understood, policy: Policy) -> list[Home]:
        brands = [request.event.brand for request in batch]
        members = [(request.event.brand, request.event.member_id) for request in batch]
        standings, now_ms = await self.arbiter.members.standings(members)
        charges = self.reference.in_charge(policy, brands, standings, now_ms)
        cells = [told.cells[request.cause] for request in batch]
        return [home_of(*each) for each in zip(cells, charges, standings, strict=True)]

    def _judge(
        self, batch: Sequence[Request], wanted: Requests, homes: Sequence[Home], now_ms: int, policy: Policy
    ) -> tuple[Ranking, Matching, list[Tier]]:
        roster = self.reference.roster
        settle(wanted, batch, homes, roster, policy, now_ms)
        tiers = self.reference.tiers(batch)
        wanted.tier = tier_numbers(tiers)
        # who is there at the time of a visit may be elsewhere now
        policy, at_ms = at_visit(batch, policy, now_ms)
        ranking = rank(wanted, roster, policy, at_ms)
        return ranking, match(ranking, wanted, roster, policy, now_ms), tiers

    async def _place(  # noqa: PLR0913, PLR0917 - what is known of a batch by then
        self,
        batch: list[Request],
        wanted: Requests,
        homes: Sequence[Home],
        now_ms: int,
        policy: Policy,
        routed: Routed,
    ) -> list[Outgoing]:
        roster = self.reference.roster
        ranking, matching, tiers = self._judge(batch, wanted, homes, now_ms, policy)
        # before the claim: while Redis decides, guides come and go and loads change
        why = reasons(ranking, wanted, roster, *at_visit(batch, policy, now_ms))
        asked = offers(batch, homes, wanted, matching.ranking, roster, policy, tiers, now_ms)
        order = claim_order(batch, matching.order)
        answers = put_back(await self.arbiter.claim([asked[row] for row in order]), order)
        if any(answer.result == "stale" for answer in answers):
            raise OutageError("a reservation has changed since it was looked at")
        explained = explain(why, policy.runners_up, winners(batch, answers, roster))
        self.reference.traffic.count(batch, answers)
        routed.requests.extend(batch)
        routed.answers.extend(answers)
        return self.outbox.results(batch, answers, ranking, explained, roster)

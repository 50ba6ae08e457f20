"""What has happened to leads, as requests, each with the place where it looks for somebody from now on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from router.reference import Reference
from router.rules.intake import Record, Request
from router.rules.placing import Home, home_of
from router.rules.responding import FURTHER, Understood, Whom, understand
from router.rules.widening import further, spot
from router.state.arbiter import Arbiter, Past
from scoring.policy import Policy
from topics.reservations import Reservation
from topics.responses import Response

Going = tuple[Whom, str, str, int]
"""Whom, from which cell, for which, how often offered."""


@dataclass(frozen=True, slots=True)
class Moving:
    """Leads that look further afield leave their cell before they are placed, and arrive after it."""

    arbiter: Arbiter
    reference: Reference

    def understand(
        self, responses: Sequence[tuple[Response, Record]], pasts: Sequence[Past], now_ms: int
    ) -> Understood:
        """Requests of responses; those who look further afield are told where."""
        told = understand(responses, pasts, now_ms, self.reference.policy)
        told.requests[:] = [self._widened(request) for request in told.requests]
        return told

    def _widened(self, request: Request) -> Request:
        move, here = request.move, self.reference.map_of(request.event.brand)
        if move is None or move.rung not in FURTHER or isinstance(request.event, Reservation):
            return request
        cell, rung = move.here, move.rung
        if move.goes:
            rung, cell = further(request.event, cell, rung, here)
        around = spot(request.event, cell, rung, here)
        place = None if around is None else (around.lat, around.lon)
        return replace(
            request,
            move=replace(move, rung=rung, cell=move.cell or (cell if move.goes else None), place=place),
        )

    async def leave(self, told: Understood, now_ms: int) -> list[Going]:
        """Let waiting leads leave for other cells; who has left, and is placed there."""
        going: dict[int, Going] = {}
        for row, request in enumerate(told.requests):
            move, event = request.move, request.event
            if move is not None and move.cell is not None and move.cell != move.here:
                lead = (event.brand, event.member_id, request.kind, request.lead_id)
                going[row] = (lead, move.here, move.cell, move.tries)
        left: list[Going] = []
        found = await self.arbiter.leave(list(going.values()), now_ms)
        for (row, (whom, here, _, attempt)), (to, brought) in zip(going.items(), found, strict=True):
            request = told.requests[row]
            if request.move is not None:
                move = replace(request.move, here=to or here, cell=to or None, brought=brought)
                told.requests[row] = replace(request, move=move)
            if to:
                left.append((whom, here, to, attempt))
        return left

    async def homes(self, batch: Sequence[Request], policy: Policy) -> list[Home]:
        """Where each request is decided, and what is known of its member."""
        brands = [request.event.brand for request in batch]
        members = [(request.event.brand, request.event.member_id) for request in batch]
        standings, now_ms = await self.arbiter.members.standings(members)
        charges = self.reference.in_charge(policy, brands, standings, now_ms)
        cells = [request.move.here if request.move is not None else "" for request in batch]
        return [home_of(*each) for each in zip(cells, charges, standings, strict=True)]

"""What has happened to leads, as requests, each with the place where it looks for somebody from now on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from router.errors import OutageError
from router.reference import Reference
from router.rules.intake import Record, Refusal, Request
from router.rules.offers import CHANGE_FULL
from router.rules.placing import Home, Proposal, home_of
from router.rules.responding import FURTHER, Understood, understand
from router.rules.widening import further, spot
from router.state.arbiter import Arbiter, Going, Gone, Lead, Past, seq_of
from topics.reservations import Reservation
from topics.responses import Response


@dataclass(frozen=True, slots=True)
class Moving:
    """Leads that look further afield, or are booked elsewhere, leave their cell before they are placed.

    They arrive after it.
    """

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

    def kept(self, batch: Sequence[Request], proposals: Sequence[Proposal]) -> list[Proposal]:
        """Let those who are kept for headquarters begin in the cell of the nearest, if there is any."""
        out = list(proposals)
        for row, request in enumerate(batch):
            if request.held:
                here = self.reference.map_of(request.event.brand)
                _, cell = further(request.event, out[row].cell, "hq", here)
                out[row] = replace(out[row], cell=cell, owner_first=False)
        return out

    async def book(
        self, requests: Sequence[Request], pasts: Sequence[Past], now_ms: int
    ) -> tuple[list[Request], list[Refusal]]:
        """What each version of a reservation is: a new one, or a change; or why it cannot be followed.

        A change to a store of another cell without a slot there is refused before anything is given up;
        who has left already goes on.
        """
        booked, unfit = self.reference.book(requests, pasts, now_ms)
        gone = {_whom(request) for request, past in zip(requests, pasts, strict=True) if past.to is not None}
        asked = [
            (_whom(request), move.cell, request.slots)
            for request in booked
            if (move := request.move) is not None and move.cell is not None and _whom(request) not in gone
        ]
        room = await self.arbiter.have_room(asked)
        full = [whom for (whom, *_), fits in zip(asked, room, strict=True) if not fits]
        unfit += [Refusal(each.record, "slot_full", CHANGE_FULL) for each in booked if _whom(each) in full]
        return [each for each in booked if _whom(each) not in full], unfit

    async def leave(self, requests: list[Request], now_ms: int) -> list[Gone]:
        """Let leads leave for other cells, their requests are told what they bring; who has left.

        Raises:
            OutageError: a reservation is on its way to yet another cell: look again.

        """
        going: dict[int, Going] = {}
        for row, request in enumerate(requests):
            move, event = request.move, request.event
            if move is not None and move.cell is not None and move.cell != move.here:
                version = str(event.version) if isinstance(event, Reservation) else ""
                going[row] = (_whom(request), move.here, move.cell, move.tries, version)
        left: list[Gone] = []
        found = await self.arbiter.leave(list(going.values()), now_ms)
        for (row, (whom, here, cell, _, version)), (to, brought) in zip(going.items(), found, strict=True):
            request = requests[row]
            if version and to not in {"", cell}:
                raise OutageError("a reservation is on its way to another cell")
            if request.move is not None:
                move = replace(request.move, here=to or here, cell=to or None, brought=brought)
                requests[row] = replace(request, move=move)
            if to:
                left.append((whom, here, to, seq_of(brought)))
        return left

    async def homes(self, batch: Sequence[Request]) -> list[Home]:
        """Where each request is decided, and what is known of its member."""
        brands = [request.event.brand for request in batch]
        members = [(request.event.brand, request.event.member_id) for request in batch]
        standings, now_ms = await self.arbiter.members.standings(members)
        charges = self.reference.in_charge(brands, standings, now_ms)
        cells = [request.move.here if request.move is not None else "" for request in batch]
        return [home_of(*each) for each in zip(cells, charges, standings, strict=True)]


def _whom(request: Request) -> Lead:
    return (request.event.brand, request.event.member_id, request.kind, request.lead_id)

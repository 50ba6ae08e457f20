"""How loads and turns reach a worker: by cells' changes, by the whole cell where their stream has a gap."""

from __future__ import annotations

from router.reference import Reference
from router.state.arbiter import Arbiter


class Changes:
    """Keeps the columns up with Redis; every worker that follows ends at the same ones."""

    def __init__(self, arbiter: Arbiter, reference: Reference) -> None:
        self._arbiter = arbiter
        self._reference = reference
        self._places: dict[str, str] = {}

    async def follow(self) -> None:
        """Take over what has changed since the last time; one round trip, and two more after a gap."""
        cells = self._reference.cells
        news = await self._arbiter.changes(cells, [self._places.get(cell, "") for cell in cells])
        gaps = [cell for cell, (_, *what) in zip(cells, news, strict=True) if what == ["gap"]]
        # read after the places: what changes in between comes again, and each number is told as a whole
        loads, turns = await self._arbiter.loads(gaps), await self._arbiter.turns(gaps)
        records = await self._arbiter.records(gaps)
        self._reference.traffic.forget_guesses()
        for cell in gaps:
            self._reference.traffic.set_cell(cell, loads[cell], turns[cell], records[cell])
        for cell, (place, *what) in zip(cells, news, strict=True):
            if what != ["gap"]:
                for guide_id, load, turn, record in zip(*(what[n::4] for n in range(4)), strict=True):
                    self._reference.traffic.change(cell, guide_id, int(load), int(turn), record)
            self._places[cell] = place

    def forget(self) -> None:
        """Read every cell as a whole the next time: Redis may have gone back."""
        self._places.clear()
        self._arbiter.forget_marks()

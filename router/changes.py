"""How loads reach a worker: by the cells' streams of changes, by the whole cell where a stream has a gap."""

from __future__ import annotations

from collections.abc import Sequence

from router.reference import Reference
from router.state.arbiter import Arbiter


class Changes:
    """Keeps the loads in the columns up with Redis; every worker that follows ends at the same ones."""

    def __init__(self, arbiter: Arbiter, reference: Reference) -> None:
        self._arbiter = arbiter
        self._reference = reference
        self._places: dict[str, str] = {}

    async def follow(self) -> None:
        """Take over what has changed since the last time; one round trip, and one more after a gap."""
        cells = self._reference.cells
        news = await self._arbiter.changes(cells, [self._places.get(cell, "") for cell in cells])
        gaps = [cell for cell, (_, *what) in zip(cells, news, strict=True) if what == ["gap"]]
        self._reference.forget_guesses()
        # read after the places: what changes in between comes again, and each load is told as a whole
        self._reference.set_loads(await self._arbiter.loads(gaps))
        for cell, (place, *what) in zip(cells, news, strict=True):
            if what != ["gap"]:
                self._reference.change_loads(cell, _pairs(what))
            self._places[cell] = place

    def forget(self) -> None:
        """Read every cell as a whole the next time: Redis may have gone back."""
        self._places.clear()


def _pairs(words: Sequence[str]) -> list[tuple[str, int]]:
    return [(guide_id, int(load)) for guide_id, load in zip(words[::2], words[1::2], strict=True)]

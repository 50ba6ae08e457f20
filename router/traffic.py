"""What hangs on traffic: open leads, turns and records, as Redis tells them, in the columns of a roster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from router.rules.intake import Request
from router.rules.offers import Answer, record_of
from scoring.roster import Roster

#: Stands for the cell itself among the guides of a cell, since no id holds it: its turn is the cell's clock.
CLOCK = "|"
#: Open leads, turn and record of a guide of whom nothing is known.
_NOTHING = (0, 0, "-")


class Traffic:
    """Keeps what Redis has told of every guide of every cell, and enters it where the guide is.

    ``roster()`` is the roster of the moment: it may be laid out anew.
    """

    def __init__(self, roster: Callable[[], Roster]) -> None:
        self._roster = roster
        self._known: dict[str, dict[str, tuple[int, int, str]]] = {}
        #: The rows where claims of our own were added since.
        self._guessed: set[int] = set()
        self._cell_count = 0
        #: By cell: grows with all that Redis tells by which a waiting lead may find somebody.
        self.changes: Counter[str] = Counter()
        #: Cells and guides of whom one may hold leads there and be gone.
        self._missed: set[tuple[str, str]] = set()

    def set_cell(
        self, cell: str, loads: Mapping[str, int], turns: Mapping[str, int], records: Mapping[str, str]
    ) -> None:
        """Take over what is known of a whole cell; of guides not named nothing is."""
        nothing = dict.fromkeys(self._known.get(cell, ()), _NOTHING)
        now = {
            name: (loads.get(name, 0), turns.get(name, 0), records.get(name, "-"))
            for name in {*loads, *turns, *records}
        }
        for name, known in (nothing | now).items():
            self.change(cell, name, *known)
        self._known[cell] = now

    def change(self, cell: str, name: str, load: int, turn: int, record: str) -> None:
        """Take over open leads, turn and record of a guide; or the cell's clock, as the turn of ``|``."""
        held = self._known.setdefault(cell, {})
        before, _, its_record = held.get(name, _NOTHING)
        held[name] = (load, turn, record)
        # who is taken up is of no use to those who wait
        self.changes[cell] += load < before or _paused_ms(record) < _paused_ms(its_record)
        roster = self._roster()
        if name == CLOCK:
            if (number := roster.cell_row(cell)) >= 0:
                roster.cell_clock[number] = turn
            return
        row = roster.guide_row(cell.partition("/")[0], name)
        if load and not _works(roster, row):
            self._missed.add((cell, name))
        # what one who moved still holds takes no room in the new cell
        if row >= 0 and roster.cell_of(int(roster.guide_store[row])) == cell:
            roster.guide_load[row], roster.guide_turn[row] = load, turn
            _enter_record(roster, row, record)

    def gone_with_leads(self, cells: Collection[str]) -> dict[str, list[str]]:
        """Guides who hold leads of these cells and are gone, work no more, or whose store is closed.

        It costs nothing while there is none.
        """
        if not self._missed:
            return {}
        roster = self._roster()
        self._missed = {
            (cell, name)
            for cell, name in self._missed
            if self._known.get(cell, {}).get(name, _NOTHING)[0]
            and not _works(roster, roster.guide_row(cell.partition("/")[0], name))
        }
        found: dict[str, list[str]] = {}
        for cell, name in sorted(self._missed):
            if cell in cells:
                found.setdefault(cell, []).append(name)
        return found

    def with_room(self) -> set[str]:
        """The cells of which some guide could hold another lead, as far as is known."""
        roster = self._roster()
        rows = roster.guide_rows()
        free = rows[roster.guide_active[rows] & (roster.guide_load[rows] < roster.guide_capacity[rows])]
        return {roster.cells[at] for at in np.unique(roster.store_cell[roster.guide_store[free]]).tolist()}

    def count(self, batch: Sequence[Request], answers: Sequence[Answer]) -> None:
        """Count what the claims of a batch have taken, until Redis tells (``forget_guesses``)."""
        roster = self._roster()
        taken = [
            (request.event.brand, step.guide_id, step.start)
            for request, answer in zip(batch, answers, strict=True)
            if answer.result == "ok" and (step := answer.offered) is not None
        ]
        found = roster.guide_ids.rows(
            [brand for brand, *_ in taken], [guide_id or "" for _, guide_id, _ in taken]
        )
        here = found >= 0
        rows, starts = found[here], np.array([start for *_, start in taken], np.int64)[here]
        np.add.at(roster.guide_load, rows, 1)
        np.maximum.at(roster.guide_turn, rows, starts + roster.guide_step[rows])
        np.maximum.at(roster.cell_clock, roster.store_cell[roster.guide_store[rows]], starts)
        self._guessed.update(rows.tolist())

    def forget_guesses(self) -> None:
        """Go back to what Redis has told: it tells of these claims as well, or has told already."""
        roster = self._roster()
        rows = np.array(sorted(self._guessed), np.int64)
        for row, guide_id in zip(rows.tolist(), roster.guide_ids.take(rows), strict=True):
            number = int(roster.store_cell[roster.guide_store[row]])
            known = self._known.get(roster.cells[number], {})
            roster.guide_load[row], roster.guide_turn[row], _ = known.get(guide_id, _NOTHING)
            roster.cell_clock[number] = known.get(CLOCK, _NOTHING)[1]
        self._guessed.clear()

    def enter(self, guides: Iterable[tuple[str, str]]) -> None:
        """Enter what is known of some guides, who may be in another cell now, and of new cells."""
        roster = self._roster()
        for brand, guide_id in guides:
            row = roster.guide_row(brand, guide_id)
            if not _works(roster, row):
                self._missed.update((cell, guide_id) for cell in self._known if cell.startswith(f"{brand}/"))
            cell = roster.cell_of(int(roster.guide_store[row])) if row >= 0 else ""
            if (held := self._known.get(cell, {}).get(guide_id)) is not None:
                self.change(cell, guide_id, *held)
        if len(roster.cells) != self._cell_count:
            self._cell_count = len(roster.cells)
            for cell, known in self._known.items():
                if CLOCK in known:
                    self.change(cell, CLOCK, *known[CLOCK])


def _works(roster: Roster, row: int) -> bool:
    """Whether the guide of a row, -1 for none, is active, and the store is."""
    return row >= 0 and bool(roster.guide_active[row])


def _paused_ms(record: str) -> int:
    return 0 if record == "-" else record_of(record).paused_until_ms


def _enter_record(roster: Roster, row: int, text: str) -> None:
    record = record_of("0,0,0,0,0,0,0" if text == "-" else text)
    roster.guide_answered[row], roster.guide_offered[row] = record.answered, record.offered
    roster.guide_won[row], roster.guide_closed[row] = record.won, record.closed
    roster.guide_seen_ms[row], roster.guide_paused_ms[row] = record.at_ms, record.paused_until_ms


def checksum(roster: Roster) -> int:
    """A number of 48 bits that is the same for two workers whose columns are the same."""
    rows = roster.guide_rows()
    mixed = roster.guide_hash[rows].astype(np.uint64)
    columns = (roster.guide_load, roster.guide_turn, roster.guide_capacity)
    for column in (*columns, roster.guide_active, roster.guide_present, roster.guide_paused_ms):
        mixed = (mixed ^ column[rows].astype(np.uint64)) * np.uint64(0x100000001B3)  # as FNV-1a, by row
    return int(mixed.sum() % np.uint64(2**48))


def over_capacity(roster: Roster) -> int:
    """Open leads beyond what their guides may hold, which only a failover or a lower capacity brings."""
    rows = roster.guide_rows()
    return int(np.maximum(roster.guide_load[rows] - roster.guide_capacity[rows], 0).sum())

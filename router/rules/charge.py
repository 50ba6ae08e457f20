"""Who is in charge of a member at a moment: by the contract, the loan, the delegation and the roster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from router.rules.ownership import Contract, Loan
from scoring.roster import Roster
from topics.guides import Delegation


class Standing(NamedTuple):
    """What routing reads of a member: the contract's owner and loan, and what touches tell.

    ``acts`` when each guide last did something for the member, the latest first; ``last_in_ms`` when the
    member last did something, -1 unknown.
    """

    owner: str = ""
    since_ms: int = -1
    loan: Loan | None = None
    acts: Mapping[str, int] = MappingProxyType({})
    last_in_ms: int = -1


class Charge(NamedTuple):
    """Who is responsible now ('' for nobody), their cell, and when they last did something for the member.

    Where a guide has left, ``store_id`` answers for the member: its queue, until somebody else is bound.
    """

    guide_id: str = ""
    cell: str = ""
    acted_ms: int = -1
    store_id: str = ""


Since = tuple[str, int]
"""A guide, or '', and since when."""
InCharge = Callable[[Sequence[str], Sequence[Standing], int], list[Charge]]
"""From brands, standings and the time to who is in charge of each."""


def responsible(held: Contract | Standing, now_ms: int, loan_max_ms: int) -> Since:
    """Who serves the member now, and since when: the borrower while the loan lasts, else the owner.

    A loan ends by the clock, without a word, at the latest ``loan_max_ms`` after it was made.
    """
    loan = held.loan
    if loan is not None:
        end_ms = loan.at_ms + loan_max_ms
        if now_ms < (end_ms if loan.until_ms is None else min(loan.until_ms, end_ms)):
            return loan.to, loan.at_ms
    return held.owner, held.since_ms


def charges(  # noqa: PLR0913, PLR0917 - what the answer hangs on
    brands: Sequence[str],
    standings: Sequence[Standing],
    now_ms: int,
    loan_max_ms: Mapping[str, int],
    delegates: Mapping[str, Delegation],
    roster: Roster,
) -> list[Charge]:
    """Who is in charge of each member: the responsible guide, or the team that runs the guide's members.

    ``loan_max_ms``, how long a loan lasts at most, is that of each brand; ``delegates`` are those of
    ``brand/guide``. An owner whom the roster does not know is nobody; one who
    works no more leaves the member to the store.
    """
    out = [Charge()] * len(standings)
    owned = [row for row, standing in enumerate(standings) if standing.owner]
    whose = [responsible(standings[row], now_ms, loan_max_ms[brands[row]]) for row in owned]
    if delegates:
        whose = [
            _delegated(delegates.get(f"{brands[row]}/{each[0]}"), each, now_ms)
            for row, each in zip(owned, whose, strict=True)
        ]
    rows = roster.guide_ids.rows([brands[row] for row in owned], [guide_id for guide_id, _ in whose])
    # a borrower or a team who does not work here any more leaves the member with the owner
    works = (rows >= 0) & roster.guide_active.take(rows)
    for at in np.flatnonzero(~works).tolist():
        standing = standings[owned[at]]
        whose[at] = (standing.owner, standing.since_ms)
        rows[at] = roster.guide_row(brands[owned[at]], standing.owner)
    stores = roster.guide_store.take(rows)
    cells = [roster.cells[cell] for cell in roster.store_cell.take(stores).tolist()]
    works = roster.guide_active.take(rows)
    for at in np.flatnonzero(rows >= 0).tolist():
        row, (guide_id, since_ms) = owned[at], whose[at]
        if works[at]:
            acted_ms = max(since_ms, standings[row].acts.get(guide_id, -1))
            out[row] = Charge(guide_id, cells[at], acted_ms)
        else:
            [store_id] = roster.store_ids.take(stores[at : at + 1])
            out[row] = Charge(cell=cells[at], store_id=store_id)
    return out


def _delegated(given: Delegation | None, whose: Since, now_ms: int) -> Since:
    if given is None or not given.from_ms <= now_ms < given.until_ms:
        return whose
    return given.team_id, given.from_ms


def nobody_in_charge(brands: Sequence[str], _: Sequence[Standing], __: int) -> list[Charge]:
    """Where nobody knows the guides."""
    return [Charge()] * len(brands)

"""Where a request is decided: the cell it should get, and what its home's answer means for its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from router.rules.charge import Charge, Standing
from router.rules.intake import Request
from router.rules.offers import Offer, Terms, offer
from scoring.arrays import Rows
from scoring.fairness import LEAD
from scoring.policy import Policy
from scoring.rank import Ranking
from scoring.requests import Requests
from scoring.retrieve import nearest_store
from scoring.roster import Roster
from topics.fields import Tier

T = TypeVar("T")
#: Scores of 0..1 as text: to look them up costs less than to format sixteen for each lead.
_FOUR_DIGITS = tuple(f"{number / 10_000:.4f}" for number in range(10_001))


@dataclass(frozen=True, slots=True)
class Proposal:
    """A request with the cell it should get unless one is fixed already."""

    brand: str
    member_id: str
    kind: str
    lead_id: str
    cell: str
    owner_first: bool


class Home(NamedTuple):
    """Where a request is decided, and what is known of its member.

    ``owner_id`` is the guide who is responsible ('' for nobody), ``acted_ms`` when that one last did
    something for the member, ``last_id`` the guide who did so last of all, ``last_in_ms`` when the member
    last did something; -1 unknown.
    """

    cell: str
    owner_id: str
    acted_ms: int = -1
    last_id: str = ""
    last_in_ms: int = -1


def home_of(cell: str, charge: Charge, standing: Standing) -> Home:
    """The home of a request that is decided in a cell."""
    last_id = next(iter(standing.acts), "")
    return Home(cell, charge.guide_id, charge.acted_ms, last_id, standing.last_in_ms)


def proposals(batch: Sequence[Request], wanted: Requests, roster: Roster, policy: Policy) -> list[Proposal]:
    """The cell of the named or the nearest store; the owner's comes first where the policy says so."""
    order = policy.cell_order
    named = wanted.store_row >= 0
    near = nearest_store(wanted, roster, policy)
    by_store = order.index("store") if "store" in order else len(order)
    by_near = order.index("nearest") if "nearest" in order else len(order)
    by_owner = order.index("owner") if "owner" in order else len(order)
    by_name = named & (by_store < by_near) | (near < 0)
    row = np.where(by_name, wanted.store_row, near)
    rank_of_row = np.where(by_name, by_store, by_near)
    # a reservation is for its store, whoever the owner is
    owner_first = ~wanted.fixed_store & ((by_owner < rank_of_row) | (row < 0))
    return [
        Proposal(
            request.event.brand,
            request.event.member_id,
            request.kind,
            request.lead_id,
            roster.cell_of(store_row) if store_row >= 0 else f"{request.event.brand}/-",
            first,
        )
        for request, store_row, first in zip(batch, row.tolist(), owner_first.tolist(), strict=True)
    ]


def settle(wanted: Requests, batch: Sequence[Request], homes: Sequence[Home], roster: Roster) -> None:
    """Enter the fixed cell of each request and what is known of its member into its columns."""
    wanted.cell[:] = [roster.cell_row(home.cell) for home in homes]
    wanted.owner_acted_ms[:] = [home.acted_ms for home in homes]
    wanted.last_contact_ms[:] = [home.last_in_ms for home in homes]
    for column, guides in (
        (wanted.owner_row, [home.owner_id for home in homes]),
        (wanted.last_row, [home.last_id for home in homes]),
    ):
        named = [row for row, guide_id in enumerate(guides) if guide_id]
        brands = [batch[row].event.brand for row in named]
        column[named] = roster.guide_ids.rows(brands, [guides[row] for row in named])


def offers(  # noqa: PLR0913, PLR0917 - everything an offer is made of
    batch: Sequence[Request],
    homes: Sequence[Home],
    wanted: Requests,
    ranking: Ranking,
    roster: Roster,
    policy: Policy,
    tiers: Sequence[Tier],
    now_ms: int,
) -> list[Offer]:
    """What the claim script is asked: each request with its shortlist and its terms."""
    guide_rows = ranking.guide_row
    owners = np.repeat(wanted.owner_row, np.diff(ranking.start)) == guide_rows
    entries = [
        f"{guide}|{step}|{store}|{_FOUR_DIGITS[score]}{'|o' if owner else ''}"
        for guide, step, store, score, owner in zip(
            roster.guide_ids.take(guide_rows),
            roster.guide_step[guide_rows].tolist(),
            roster.store_ids.take(roster.guide_store[guide_rows]),
            np.rint(ranking.score * np.float32(10_000)).astype(np.int32).tolist(),
            owners.tolist(),
            strict=True,
        )
    ]
    start = ranking.start.tolist()
    horizon = round(policy.fair_horizon * LEAD)
    terms = {
        tier: Terms(now_ms, now_ms + policy.respond_s[tier] * 1000, policy.version, horizon)
        for tier in set(tiers)
    }
    return [
        offer(
            request,
            homes[row].cell,
            " ".join(entries[start[row] : start[row + 1]]),
            terms[tiers[row]],
            marked=request.event.brand in roster.brands,
        )
        for row, request in enumerate(batch)
    ]


def claim_order(batch: Sequence[Request], order: Rows) -> list[int]:
    """The rows of a batch in the order in which they ask: that of the match, repeats of a request behind.

    Of the same request twice in a batch the record that came first decides, whatever the match says.
    """
    first: dict[tuple[str, str, str], int] = {}
    for row, request in enumerate(batch):
        first.setdefault((request.event.brand, request.kind, request.lead_id), row)
    here = set(first.values())
    return [row for row in order.tolist() if row in here] + [
        row for row in range(len(batch)) if row not in here
    ]


def put_back(items: Sequence[T], order: Sequence[int]) -> list[T]:
    """Items that stand in an order, each where it was before."""
    out = dict(zip(order, items, strict=True))
    return [out[row] for row in range(len(out))]

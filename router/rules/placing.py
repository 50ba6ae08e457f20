"""Where a request is decided: the cell it should get, and what its home's answer means for its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

import numpy as np

from router.rules.intake import Request
from router.rules.lifecycle import moves
from router.rules.offers import NO_DIGEST, Offer, Terms, about, queue_of
from scoring.arrays import Pairs, Rows
from scoring.fairness import LEAD
from scoring.policy import Policy
from scoring.rank import Ranking
from scoring.requests import TIERS, Requests
from scoring.retrieve import nearest_store
from scoring.roster import Roster
from topics.assignments import Rung
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


@dataclass(frozen=True, slots=True)
class Home:
    """Where a request is decided and who is responsible for its member ('' for nobody)."""

    cell: str
    owner_id: str


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
    """Enter the fixed cell, the owner and who has given it back of each request into its columns.

    What only tells what happened to a lead, and asks for nobody, gets no cell and so no candidates.
    """
    wanted.cell[:] = [
        roster.cell_row(home.cell) if asks(request) else -1
        for home, request in zip(homes, batch, strict=True)
    ]
    owned = [row for row, home in enumerate(homes) if home.owner_id]
    brands = [batch[row].event.brand for row in owned]
    wanted.owner_row[owned] = roster.guide_ids.rows(brands, [homes[row].owner_id for row in owned])
    tried = [
        (row, request.event.brand, guide_id)
        for row, request in enumerate(batch)
        if request.move is not None
        for guide_id in request.move.tried
    ]
    if tried:
        guides = roster.guide_ids.rows([brand for _, brand, _ in tried], [name for *_, name in tried])
        rows = np.array([row for row, *_ in tried], np.int32)
        wanted.declined = Pairs(rows[guides >= 0], guides[guides >= 0].astype(np.int32))


def asks(request: Request) -> bool:
    """Whether a request wants the lead to be offered to somebody."""
    return request.move is None or request.move.asks


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
    size = np.diff(ranking.start)
    stores = roster.guide_store[guide_rows]
    is_owner = np.repeat(wanted.owner_row, size) == guide_rows
    is_named = np.repeat(wanted.store_row, size) == stores
    base = np.repeat(np.array([RUNGS.index(rung_of(request)) for request in batch], np.int8), size)
    rungs = np.where(is_owner, 0, np.where(is_named, 1, base))
    entries = [
        f"{guide}|{step}|{store}|{_FOUR_DIGITS[score]}|{RUNGS[rung]}"
        for guide, step, store, score, rung in zip(
            roster.guide_ids.take(guide_rows),
            roster.guide_step[guide_rows].tolist(),
            roster.store_ids.take(stores),
            np.rint(ranking.score.astype(np.float64) * 10_000).astype(np.int32).tolist(),
            rungs.tolist(),
            strict=True,
        )
    ]
    start = ranking.start.tolist()
    rules = script_rules(policy, now_ms)
    terms = {
        (tier, rung): _terms(policy, tier, rung, now_ms)
        for tier, rung in {*zip(tiers, map(rung_of, batch), strict=True)}
    }
    return [
        Offer(
            cell=homes[row].cell,
            marked=request.event.brand in roster.brands,
            rules=rules,
            kind=request.kind,
            lead_id=request.lead_id,
            member_id=request.event.member_id,
            digest=request.digest or NO_DIGEST,
            shortlist=" ".join(entries[start[row] : start[row + 1]]),
            about=about(
                request,
                queue_of(request, homes[row].cell, rung_of(request)),
                tiers[row],
                rung_of(request),
                terms[tiers[row], rung_of(request)],
            ),
            cause="|".join(request.cause),
            move=_move(request, policy, now_ms),
        )
        for row, request in enumerate(batch)
    ]


RUNGS: tuple[Rung, ...] = get_args(Rung)


def rung_of(request: Request) -> Rung:
    """How far afield a request looks, beyond owner and named store."""
    return "near" if request.move is None else request.move.rung


def script_rules(policy: Policy, now_ms: int) -> str:
    """What the claim script is told once for a batch: time, fairness, who comes first, what is counted."""
    tiers = "".join(str(TIERS.index(tier)) for tier in policy.tier_order)
    horizon = round(policy.fair_horizon * LEAD)
    half_life_ms = policy.half_life_days * 86_400_000
    pause = f"{policy.silent_max} {policy.pause_s * 1000}"
    return f"{now_ms} {horizon} {tiers} {policy.age_up_s * 1000} {half_life_ms} {pause}"


def _terms(policy: Policy, tier: Tier, rung: Rung, now_ms: int) -> Terms:
    within_ms = policy.respond_s[tier] * 1000
    remind_at_ms = now_ms + round(within_ms * policy.remind_share) if policy.remind_share < 1 else 0
    return Terms(policy.version, now_ms + within_ms, remind_at_ms, now_ms + policy.ladder_s[rung] * 1000)


def _move(request: Request, policy: Policy, now_ms: int) -> str:
    if request.move is None:
        return ""
    response = request.move.response
    attempt = "-" if response.attempt is None else response.attempt
    over_ms = request.event.occurred_at_ms + policy.life_max_s * 1000
    following = moves(response.action, now_ms, policy, over_ms=over_ms, over=request.move.over)
    return f"{attempt} {response.guide_id or '-'} {following}"


def claim_order(batch: Sequence[Request], order: Rows) -> list[int]:
    """The rows of a batch in the order in which they ask: that of the match, repeats of a lead behind.

    Of the same lead several times in a batch the records take effect in their order, whatever the match says.
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

"""Where a request is decided: the cell it should get, and what its home's answer means for its columns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar, get_args

import numpy as np

from router.rules.booking import AHEAD, guide_needed_ms, is_ahead
from router.rules.charge import Charge, Standing
from router.rules.intake import Request
from router.rules.lifecycle import Limits, moves
from router.rules.offers import BOOKED, NO_DIGEST, NOBODY, Offer, Terms, about, queue_of
from scoring.arrays import Bools, Pairs, Rows
from scoring.fairness import LEAD
from scoring.policy import Policy
from scoring.rank import Ranking
from scoring.requests import TIERS, Requests
from scoring.retrieve import nearest_store
from scoring.roster import Roster
from topics.assignments import Rung
from topics.fields import Tier
from topics.reservations import Reservation

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


def at_home(batch: Sequence[Request], homes: Sequence[Home]) -> list[Home]:
    """Homes of requests; what happens to a lead does so where it was found, or where it goes."""
    return [
        home if request.move is None else home._replace(cell=request.move.here)
        for request, home in zip(batch, homes, strict=True)
    ]


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


def settle(  # noqa: PLR0913, PLR0917 - what is known of a batch by then
    wanted: Requests,
    batch: Sequence[Request],
    homes: Sequence[Home],
    roster: Roster,
    policy: Policy,
    now_ms: int,
) -> None:
    """Enter the cell of each request, what is known of its member and who gave it back into its columns.

    What only tells what happened to a lead, and asks for nobody, gets no cell and so no candidates.
    """
    wanted.cell[:] = [
        roster.cell_row(home.cell) if asks(request, policy, now_ms) else -1
        for home, request in zip(homes, batch, strict=True)
    ]
    wanted.cell[at_closed_store(wanted, roster, policy, now_ms)] = -1
    wanted.owner_acted_ms[:] = [home.acted_ms for home in homes]
    wanted.last_contact_ms[:] = [home.last_in_ms for home in homes]
    wanted.waits[:] = [request.move is not None for request in batch]
    wanted.visit_ms = max((request.visit_ms or 0 for request in batch), default=0)
    wanted.kept[:] = [request.held for request in batch]
    grabs = {row: grab for row, request in enumerate(batch) if (grab := grabber(request))}
    wanted.only_owner[list(grabs)] = True
    for column, guides in (
        # who takes a lead out of the pool stands where its owner would
        (wanted.owner_row, [grabs.get(row, home.owner_id) for row, home in enumerate(homes)]),
        (wanted.last_row, [home.last_id for home in homes]),
    ):
        named = [row for row, guide_id in enumerate(guides) if guide_id]
        brands = [batch[row].event.brand for row in named]
        column[named] = roster.guide_ids.rows(brands, [guides[row] for row in named])
    for row in grabs:  # a lead that names a store is in that store's pool
        store, taker = wanted.store_row[row], wanted.owner_row[row]
        if store >= 0 and taker >= 0 and roster.guide_store[taker] != store:
            wanted.owner_row[row] = -1
    for row, request in enumerate(batch):
        if request.move is not None and request.move.place is not None:
            wanted.lat[row], wanted.lon[row] = request.move.place
            wanted.store_row[row] = -1
    tried = [
        (row, request.event.brand, guide_id)
        for row, request in enumerate(batch)
        if request.move is not None and row not in grabs  # who takes it now may have given it back before
        for guide_id in request.move.tried
    ]
    if tried:
        found = roster.guide_ids.rows([brand for _, brand, _ in tried], [name for *_, name in tried])
        rows = np.array([row for row, *_ in tried], np.int32)
        wanted.declined = Pairs(rows[found >= 0], found[found >= 0].astype(np.int32))


def at_closed_store(wanted: Requests, roster: Roster, policy: Policy, now_ms: int) -> Bools:
    """Which leads wait for the store that they name, since it is closed and the policy says so."""
    closed: Bools = np.zeros(len(wanted), np.bool_)
    if policy.queue_until_open:
        named = np.flatnonzero(wanted.store_row >= 0)
        closed[named] = ~roster.open_stores(now_ms, wanted.store_row[named])
    return closed


#: How much longer than other leads those may wait who wait for a store to open.
NIGHT_MS = 16 * 3_600_000


def grabber(request: Request) -> str | None:
    """The guide who takes a waiting lead out of the open pool, if this is about that."""
    move = request.move
    return move.guide_id if move is not None and move.action == "grabbed" else None


def asks(request: Request, policy: Policy, now_ms: int) -> bool:
    """Whether a request wants the lead to be offered to somebody now."""
    wants = not (request.over or request.held) if request.move is None else request.move.asks
    return wants and not is_ahead(request, policy, now_ms)


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
    closed = at_closed_store(wanted, roster, policy, now_ms)
    out = []
    for row, request in enumerate(batch):
        ahead = is_ahead(request, policy, now_ms)
        rung = AHEAD if ahead else rung_of(request)
        queue = queue_of(request, homes[row].cell, rung)
        terms = _terms(request, policy, tiers[row], rung, now_ms)
        if closed[row]:
            terms = replace(terms, wait_by_ms=terms.wait_by_ms + NIGHT_MS)
        out.append(
            Offer(
                cell=homes[row].cell,
                marked=request.event.brand in roster.brands,
                rules=rules,
                kind=request.kind,
                lead_id=request.lead_id,
                member_id=request.event.member_id,
                digest=request.digest or NO_DIGEST,
                shortlist=" ".join(entries[start[row] : start[row + 1]]),
                about=about(request, f"{queue}/{BOOKED}" if ahead else queue, tiers[row], rung, terms),
                cause="|".join(request.cause),
                move=_move(request, policy, terms, now_ms),
                slots=request.slots,
                brought="" if request.move is None else request.move.brought,
            )
        )
    return out


RUNGS: tuple[Rung, ...] = get_args(Rung)


def rung_of(request: Request) -> Rung:
    """How far afield a request looks, beyond owner and named store."""
    if request.move is None:
        return "hq" if request.held else "near"
    return request.move.rung


def script_rules(policy: Policy, now_ms: int) -> str:
    """What the claim script is told once for a batch: time, fairness, who comes first, what is counted."""
    tiers = "".join(str(TIERS.index(tier)) for tier in policy.tier_order)
    horizon = round(policy.fair_horizon * LEAD)
    half_life_ms = policy.half_life_days * 86_400_000
    pause = f"{policy.silent_max} {policy.pause_s * 1000}"
    bounds = f"{policy.ladder_s['owner'] * 1000} {policy.ladder_s['store'] * 1000}"
    return f"{now_ms} {horizon} {tiers} {policy.age_up_s * 1000} {half_life_ms} {pause} {bounds}"


def _terms(request: Request, policy: Policy, tier: Tier, rung: Rung, now_ms: int) -> Terms:
    within_ms = policy.respond_s[tier] * 1000
    remind_at_ms = now_ms + round(within_ms * policy.remind_share) if policy.remind_share < 1 else 0
    over_ms = request.event.occurred_at_ms + policy.life_max_s * 1000
    wait_by_ms = max(now_ms, min(now_ms + policy.ladder_s[rung] * 1000, over_ms))
    if isinstance(request.event, Reservation) and rung == AHEAD:
        wait_by_ms = max(now_ms, guide_needed_ms(request.event, policy))
    return Terms(policy.version, now_ms + within_ms, remind_at_ms, wait_by_ms)


def _move(request: Request, policy: Policy, terms: Terms, now_ms: int) -> str:
    event, move = request.event, request.move
    if move is None:
        if not request.over:
            return ""
        return "=withdrawn" if isinstance(event, Reservation) and event.status == "cancelled" else "=closed"
    limits = Limits(event.occurred_at_ms + policy.life_max_s * 1000, wait_ms=terms.wait_by_ms)
    if isinstance(event, Reservation):
        limits = limits._replace(over_ms=event.ends_at_ms, visit_ms=event.ends_at_ms)
    attempt = "-" if move.attempt is None else move.attempt
    return f"{attempt} {move.guide_id or NOBODY} {moves(move.action, now_ms, policy, limits, over=move.over)}"


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


def waves(items: Sequence[T], lead_of: Callable[[T], Hashable]) -> list[list[T]]:
    """Items of which no two in the same wave are about the same lead, each lead's in their order."""
    out: list[list[T]] = []
    times: dict[Hashable, int] = {}
    for item in items:
        lead = lead_of(item)
        wave = times[lead] = times.get(lead, -1) + 1
        if wave == len(out):
            out.append([])
        out[wave].append(item)
    return out


def put_back(items: Sequence[T], order: Sequence[int]) -> list[T]:
    """Items that stand in an order, each where it was before."""
    out = dict(zip(order, items, strict=True))
    return [out[row] for row in range(len(out))]

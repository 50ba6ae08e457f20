"""How well a guide suits a lead: each feature is a number of 0..1, float32, without a unit; more is better.

Only exactly rounded operations, so that the same pair has the same value to the bit wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scoring import beta, fairness
from scoring.arrays import Bools, F32s, F64s, I8s, I32s
from scoring.layout import KINDS
from scoring.roster import BOOK_UNLIMITED
from scoring.view import Grain, View

#: Price zone of the lead (row) and of the guide (column) to the value of the feature.
_ZONE_FIT = np.array([[0, 0, 0, 0], [0, 1, 0, 0.5], [0, 0, 1, 0.5], [1, 1, 1, 1]], np.float32)
_LEVEL_SHARE = ((np.arange(256, dtype=np.float32) - 1) / 9).clip(0, 1).astype(np.float32)


def free_capacity(view: View) -> F32s:
    """Share of the guide's capacity that is free, on a snapshot; 0 without any, or over it."""
    room = view.roster.guide_capacity.take(view.guide)
    return _share_left(room, view.roster.guide_load.take(view.guide))


def book(view: View) -> F32s:
    """Share of the guide's book of members that is free; 1 for a book without a limit."""
    most = view.roster.guide_book_max.take(view.guide)
    left = _share_left(most, view.roster.guide_book.take(view.guide))
    return np.where(most == BOOK_UNLIMITED, np.float32(1), left)


def responsiveness(view: View) -> F32s:
    """Expected share of offers that the guide accepts in time; a newcomer has the policy's prior."""
    roster, policy = view.roster, view.policy
    hits, tries = roster.guide_answered.take(view.guide), roster.guide_offered.take(view.guide)
    prior = beta.Prior(policy.response_mean, policy.prior_strength)
    return beta.mean(hits, tries, view.of_guide(_weight_left), prior)


def conversion(view: View) -> F32s:
    """Expected share of the guide's leads that are won; a newcomer has the policy's prior."""
    roster, policy = view.roster, view.policy
    hits, tries = roster.guide_won.take(view.guide), roster.guide_closed.take(view.guide)
    prior = beta.Prior(policy.conversion_mean, policy.prior_strength)
    return beta.mean(hits, tries, view.of_guide(_weight_left), prior)


def _weight_left(view: View) -> F64s:
    """What is left of the weight of a guide's record, which answers and sales share."""
    age_ms = view.now_ms - view.roster.guide_seen_ms.take(view.guide)
    return beta.faded(age_ms, view.policy.half_life_days * 86_400_000)


def turn(view: View) -> F32s:
    """How far the guide is behind a fair share of the cell's leads, see `fairness.due`."""
    roster = view.roster
    # with one cell one clock stands for every guide
    cell = roster.store_cell.take(view.store) if len(roster.cells) > 1 else np.zeros(1, np.int32)
    clock = roster.cell_clock.take(cell)
    horizon = round(view.policy.fair_horizon * fairness.LEAD)
    return fairness.due(
        roster.guide_turn.take(view.guide), roster.guide_step.take(view.guide), clock, horizon
    )


def distance(view: View) -> F32s:
    """Nearness: 1 in the store, 0.5 at ``distance_half_km``, and so on, ``half / (half + km)``.

    Unlike an exponential it still tells far stores apart.
    """
    half = np.float32(view.policy.distance_half_km)
    near: F32s = half / (half + view.km)
    return near


def store(view: View) -> F32s:
    """1 for the guides of the store that the lead names, else 0."""
    named: Bools = view.of_lead(view.requests.store_row) == view.store
    return named.astype(np.float32)


def store_fit(view: View) -> F32s:
    """What the policy holds of the store's kind, 0..1; halved where no slot is free for the lead."""
    kinds = np.array([view.policy.kind_fit[kind] for kind in KINDS], np.float32)
    fit = kinds.take(view.roster.store_kind.take(view.store))
    if view.requests.no_slot.row.size:
        fit[view.requests.no_slot.holds(view.lead, view.store)] *= np.float32(0.5)
    return fit


def owner(view: View) -> F32s:
    """The bond with the guide who is responsible, 0 for all others.

    1 when that guide has just done something for the member, half every ``owner_half_life_days`` after.
    """
    bond = view.is_owner.astype(np.float32)
    acted_ms = view.requests.owner_acted_ms
    if (acted_ms >= 0).any():
        age_ms = np.where(acted_ms >= 0, view.now_ms - acted_ms, 0)
        left = beta.faded(age_ms, view.policy.owner_half_life_days * 86_400_000)
        bond *= left.astype(np.float32).take(view.lead)
    return bond


def last_server(view: View) -> F32s:
    """1 for the guide who served the member last, else 0."""
    if view.requests.last_row.max(initial=-1) < 0:
        return np.zeros(len(view), np.float32)
    served: Bools = view.of_lead(view.requests.last_row.astype(np.int64)) == view.guide
    return served.astype(np.float32)


def skills(view: View) -> F32s:
    """Mean level over the lead's needs, divided by the highest level, 5; 1 for a lead without needs."""
    return _per_need(view, view.skills.total, 5, 1) if view.requests.need_tags.size else _ones(view)


def preferences(view: View) -> F32s:
    """Share of the lead's needs that the guide prefers to serve; 0 for a lead without needs."""
    if not view.requests.need_tags.size:
        return np.zeros(len(view), np.float32)
    return _per_need(view, view.skills.preferred, 1, 0)


def value_level(view: View) -> F32s:
    """The more a lead is worth, the more a high level counts: ``1 - value * (1 - level)``.

    The level is 0..1 for 1..10; the value 0.5 at ``value_half_fen`` and 0 where unknown, when all guides
    have 1.
    """
    if not view.requests.value_fen.any():
        return _ones(view)
    fen = view.requests.value_fen.astype(np.float64)
    value = (fen / (fen + view.policy.value_half_fen)).astype(np.float32)
    lost = view.of_lead(value)
    lost *= view.of_guide(_level_missing)
    return np.subtract(np.float32(1), lost, out=lost)


def _level_missing(view: View) -> F32s:
    return (1 - _LEVEL_SHARE).take(view.level)


def urgency(view: View) -> F32s:
    """The nearer the end of the member's reply window, the more speed counts: ``1 - urgency * (1 - quick)``.

    Urgency rises from 0 at the last interaction to 1 when ``window_h`` have passed, and is 0 outside of the
    window; quick is the guide's `responsiveness`.
    """
    since_ms = view.now_ms - view.requests.last_contact_ms
    window_ms = view.policy.window_h * 3_600_000
    inside = (view.requests.last_contact_ms >= 0) & (since_ms >= 0) & (since_ms < window_ms)
    if not inside.any():
        return _ones(view)
    lost = view.of_lead(np.where(inside, since_ms / window_ms, 0).astype(np.float32))
    lost *= view.of_guide(_slowness)
    return np.subtract(np.float32(1), lost, out=lost)


def _slowness(view: View) -> F32s:
    return 1 - view.per_guide(responsiveness)


def price_zone(view: View) -> F32s:
    """1 for a specialist of the lead's price zone, 0.5 for a guide of both, 0 for one of the other.

    1 for every guide where the lead names no zone.
    """
    row = view.of_lead(view.requests.zone_mask * np.uint8(4))
    row |= view.zones
    fit: F32s = _ZONE_FIT.ravel().take(row)
    return fit


def _ones(view: View) -> F32s:
    return np.ones(len(view), np.float32)


def _per_need(view: View, total: I8s, most: int, otherwise: int) -> F32s:
    """A sum over needs as a share of its most; ``otherwise`` for a lead without needs."""
    needs = view.requests.need_count
    per_need = 1 / (np.arange(1, view.requests.need_tags.shape[1] + 1) * most)
    share = view.of_lead(np.append(0, per_need).astype(np.float32).take(needs))
    share *= total
    if otherwise:
        share += view.of_lead((needs == 0).astype(np.float32))
    return np.minimum(share, np.float32(1), out=share)


def _share_left(most: I32s, used: I32s) -> F32s:
    left = np.minimum(np.maximum(most - used, 0), most).astype(np.float32)
    share: F32s = left / np.maximum(most, 1).astype(np.float32)
    return share


class Feature(NamedTuple):
    """One entry of the list."""

    name: str
    grain: Grain
    value: Callable[[View], F32s]


FEATURES: tuple[Feature, ...] = (
    Feature("free_capacity", Grain.GUIDE, free_capacity),
    Feature("book", Grain.GUIDE, book),
    Feature("responsiveness", Grain.GUIDE, responsiveness),
    Feature("conversion", Grain.GUIDE, conversion),
    Feature("turn", Grain.GUIDE, turn),
    Feature("distance", Grain.STORE, distance),
    Feature("store", Grain.STORE, store),
    Feature("store_fit", Grain.STORE, store_fit),
    Feature("owner", Grain.PAIR, owner),
    Feature("last_server", Grain.PAIR, last_server),
    Feature("skills", Grain.PAIR, skills),
    Feature("preferences", Grain.PAIR, preferences),
    Feature("value_level", Grain.PAIR, value_level),
    Feature("urgency", Grain.PAIR, urgency),
    Feature("price_zone", Grain.PAIR, price_zone),
)

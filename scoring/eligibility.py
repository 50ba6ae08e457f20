"""Who may take a lead at all. The order of the list is the order of the reasons in an explanation.

Filters of guides come first, then those of stores, then those of pairs: each grain is asked only about what
the ones before let through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scoring.arrays import Bools
from scoring.layout import HQ
from scoring.requests import TIERS
from scoring.view import Grain, View


def active(view: View) -> Bools:
    """The guide still works here and the store is open for business."""
    return view.roster.guide_active.take(view.guide)


def present(view: View) -> Bools:
    """The guide is not known to be offline."""
    return view.roster.guide_present.take(view.guide)


def leave(view: View) -> Bools:
    """The guide is on leave neither at ``now_ms``, when the claim asks, nor at a visit."""
    away = view.roster.on_leave(view.now_ms, view.guide)
    if view.at_ms != view.now_ms:
        away |= view.roster.on_leave(view.at_ms, view.guide)
    return ~away


def shifts(view: View) -> Bools:
    """The guide is on shift at ``at_ms``: now, or at a visit; who has no shifts always is."""
    return view.roster.on_shift(view.at_ms, view.guide)


def hours(view: View) -> Bools:
    """The store is open at ``at_ms``, by its hours and closed days; without hours it always is."""
    return view.roster.open_stores(view.at_ms, view.store)


def capacity(view: View) -> Bools:
    """The guide has fewer open leads than capacity, on a snapshot; the claim decides on the truth."""
    roster = view.roster
    return roster.guide_load.take(view.guide) < roster.guide_capacity.take(view.guide)


def paused(view: View) -> Bools:
    """The guide gets leads at ``now_ms``: answers offers, or the pause after too much silence is over."""
    allowed: Bools = view.roster.guide_paused_ms.take(view.guide) <= view.now_ms
    return allowed


def partner_quota(view: View) -> Bools:
    """The quota of the lead's partner is not used up, if it has one."""
    left: Bools = view.requests.partner_left != 0
    return np.ones(len(view), np.bool_) if left.all() else view.of_lead(left)


def stock(view: View) -> Bools:
    """The store is one of those that hold the goods, if the lead names any."""
    if not view.requests.stock_named.any():
        return np.ones(len(view), np.bool_)
    holds = ~view.of_lead(view.requests.stock_named)
    asked = np.flatnonzero(~holds)
    if asked.size:
        holds[asked] = view.requests.stock.holds(view.lead[asked], view.store[asked])
    return holds


def kept(view: View) -> Bools:
    """The store is of headquarters, if the lead is kept for those."""
    if not view.requests.kept.any():
        return np.ones(len(view), np.bool_)
    of_hq: Bools = view.roster.store_kind.take(view.store) == HQ
    return ~view.of_lead(view.requests.kept) | of_hq


def only_owner(view: View) -> Bools:
    """The guide is responsible for the member, if the lead is for nobody else."""
    if not view.requests.only_owner.any():
        return np.ones(len(view), np.bool_)
    return ~view.requests.only_owner.take(view.lead) | view.is_owner


def price_zone(view: View) -> Bools:
    """The guide sells in a price zone that will do for the lead; zones are never crossed."""
    return (view.zones & view.of_lead(view.requests.zone_mask)).astype(np.bool_)


def skills(view: View) -> Bools:
    """The guide has every need of the lead at the policy's ``skill_level_min``, 1..5, or above."""
    if not view.requests.need_tags.size:
        return np.ones(len(view), np.bool_)
    enough: Bools = view.skills.lowest >= view.policy.skill_level_min
    return enough


def tier_level(view: View) -> Bools:
    """The guide's level, 1..10, is at least what the policy asks for the tier of the lead."""
    least = np.array([view.policy.level_min[tier] for tier in TIERS], np.uint8)
    if least.max() <= 1:
        return np.ones(len(view), np.bool_)
    return view.level >= view.of_lead(least[view.requests.tier])


def reserve(view: View) -> Bools:
    """The guide has room beyond what is reserved for the top tier, unless the lead is of that tier."""
    share, roster = view.policy.reserve_top, view.roster
    if not share:
        return np.ones(len(view), np.bool_)
    most = roster.guide_capacity.take(view.guide)
    kept = np.floor(most * np.float64(share)).astype(np.int32)
    top = view.of_lead(view.requests.tier == TIERS.index(view.policy.tier_order[0]))
    allowed: Bools = top | (roster.guide_load.take(view.guide) < most - kept)
    return allowed


def book(view: View) -> Bools:
    """The guide's book of bound members is not full, unless the member is one of them."""
    if not view.per_guide(_book_is_full).any():
        return np.ones(len(view), np.bool_)
    return ~view.of_guide(_book_is_full) | view.is_owner


def _book_is_full(view: View) -> Bools:
    full: Bools = view.roster.guide_book.take(view.guide) >= view.roster.guide_book_max.take(view.guide)
    return full


def declined(view: View) -> Bools:
    """The guide has not declined this lead before."""
    return ~view.requests.declined.holds(view.lead, view.guide)


class Filter(NamedTuple):
    """One entry of the list."""

    name: str
    grain: Grain
    allows: Callable[[View], Bools]


ELIGIBILITY: tuple[Filter, ...] = (
    Filter("active", Grain.GUIDE, active),
    Filter("present", Grain.GUIDE, present),
    Filter("leave", Grain.GUIDE, leave),
    Filter("shifts", Grain.GUIDE, shifts),
    Filter("hours", Grain.GUIDE, hours),
    Filter("capacity", Grain.GUIDE, capacity),
    Filter("paused", Grain.GUIDE, paused),
    Filter("partner_quota", Grain.STORE, partner_quota),
    Filter("stock", Grain.STORE, stock),
    Filter("kept", Grain.STORE, kept),
    Filter("only_owner", Grain.PAIR, only_owner),
    Filter("price_zone", Grain.PAIR, price_zone),
    Filter("skills", Grain.PAIR, skills),
    Filter("tier_level", Grain.PAIR, tier_level),
    Filter("reserve", Grain.PAIR, reserve),
    Filter("book", Grain.PAIR, book),
    Filter("declined", Grain.PAIR, declined),
)

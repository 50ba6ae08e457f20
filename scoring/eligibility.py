"""Who may take a lead at all. The order of the list is the order of the reasons in an explanation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scoring.arrays import Bools
from scoring.view import View


def active(view: View) -> Bools:
    """The guide still works here and the store is open for business."""
    return view.roster.guide_active.take(view.guide)


def present(view: View) -> Bools:
    """The guide is not known to be offline."""
    return view.roster.guide_present.take(view.guide)


def leave(view: View) -> Bools:
    """The guide is not on leave at ``now_ms``."""
    return ~view.roster.on_leave(view.now_ms).take(view.guide)


def capacity(view: View) -> Bools:
    """The guide has fewer open leads than capacity, on a snapshot; the claim decides on the truth."""
    roster = view.roster
    return roster.guide_load.take(view.guide) < roster.guide_capacity.take(view.guide)


def price_zone(view: View) -> Bools:
    """The guide sells in a price zone that will do for the lead; zones are never crossed."""
    common = view.roster.guide_zones.take(view.guide) & view.requests.zone_mask.take(view.lead)
    return common.astype(np.bool_)


def skills(view: View) -> Bools:
    """The guide has every need of the lead at level 1 or above."""
    return view.levels[0] >= 1


def stock(view: View) -> Bools:
    """The guide's store is one of those that hold the goods, if the lead names any."""
    requests, n_stores = view.requests, len(view.roster.store_ids)
    holds = ~requests.stock_named.take(view.lead)
    asked = np.flatnonzero(~holds)
    if asked.size:
        held = requests.stock_lead * np.int64(n_stores) + requests.stock_store
        holds[asked] = np.isin(view.lead[asked] * np.int64(n_stores) + view.store[asked], held)
    return holds


ELIGIBILITY: tuple[tuple[str, Callable[[View], Bools]], ...] = (
    ("active", active),
    ("present", present),
    ("leave", leave),
    ("capacity", capacity),
    ("price_zone", price_zone),
    ("skills", skills),
    ("stock", stock),
)

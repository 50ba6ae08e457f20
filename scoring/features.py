"""How well a guide suits a lead: each feature is a number of 0..1, float32, without a unit; more is better.

Only exactly rounded operations, so that the same pair has the same value to the bit wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scoring.arrays import Bools, F32s
from scoring.view import View

#: Price zone of the lead (row) and of the guide (column) to the value of the feature.
_ZONE_FIT = np.array([[0, 0, 0, 0], [0, 1, 0, 0.5], [0, 0, 1, 0.5], [1, 1, 1, 1]], np.float32)


def distance(view: View) -> F32s:
    """Nearness: 1 in the store, 0.5 at ``distance_half_km``, and so on, ``half / (half + km)``.

    Unlike an exponential it still tells far stores apart.
    """
    half = np.float32(view.policy.distance_half_km)
    near: F32s = half / (half + view.km)
    return near


def skills(view: View) -> F32s:
    """Mean level over the lead's needs, divided by the highest level, 5; 1 for a lead without needs."""
    mean = np.ones(len(view), np.float32)
    if not view.requests.need_tags.size:
        return mean
    full = (view.needs * np.int32(5)).astype(np.float32)
    np.divide(view.levels[1], full, out=mean, where=full > 0, dtype=np.float32)
    return mean


def free_capacity(view: View) -> F32s:
    """Share of the guide's capacity that is free, on a snapshot; 0 without any, or over it."""
    room = view.roster.guide_capacity.take(view.guide)
    free = np.clip(room - view.roster.guide_load.take(view.guide), 0, room)
    share: F32s = free.astype(np.float32) / np.maximum(room, 1).astype(np.float32)
    return share


def owner(view: View) -> F32s:
    """1 for the guide the member belongs to, else 0."""
    owned: Bools = view.requests.owner_row.take(view.lead) == view.guide
    return owned.astype(np.float32)


def store(view: View) -> F32s:
    """1 for the guides of the store that the lead names, else 0."""
    named: Bools = view.requests.store_row.take(view.lead) == view.store
    return named.astype(np.float32)


def price_zone(view: View) -> F32s:
    """1 for a specialist of the lead's price zone, 0.5 for a guide of both, 0 for one of the other.

    1 for every guide where the lead names no zone.
    """
    return _ZONE_FIT[view.requests.zone_mask.take(view.lead), view.roster.guide_zones.take(view.guide)]


FEATURES: tuple[tuple[str, Callable[[View], F32s]], ...] = (
    ("distance", distance),
    ("skills", skills),
    ("free_capacity", free_capacity),
    ("owner", owner),
    ("store", store),
    ("price_zone", price_zone),
)

"""What the roster ever allowed, and how many leads each guide held at once."""

from __future__ import annotations

from array import array
from typing import Any

#: Open leads at once of a guide whose capacity nobody gave.
DEFAULT_CAPACITY = 20
#: The kind of store that must not serve a price zone.
_FORBIDDEN_KIND = {"full": "outlet", "special": "full_price"}
#: Batches overlap, so a release may carry a later time than an offer that was made after it.
_SKEW_MS = 1_000


class Roster:
    """Stores and guides in their most generous version: topics have no common order to judge a change by.

    Keys are ``brand/id``. Whatever was right once stays right, so a verdict of "right" is final.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, set[str]] = {}
        self._zones: dict[str, set[str]] = {}  # of guides who were active; the empty set allows every zone
        self._capacity: dict[str, int] = {}
        self._loads: dict[str, array[int]] = {}

    def feed_store(self, store: dict[str, Any]) -> None:
        """Note the kind of an active store."""
        if store.get("active"):
            key = f"{store.get('brand')}/{store.get('store_id')}"
            self._kinds.setdefault(key, set()).add(str(store.get("kind")))

    def feed_guide(self, guide: dict[str, Any]) -> None:
        """Note what an active guide may serve, and the capacity."""
        if not guide.get("active"):
            return
        key = f"{guide.get('brand')}/{guide.get('guide_id')}"
        zones, known = set(guide.get("price_zones") or ()), self._zones.get(key)
        self._zones[key] = zones if known is None else (zones | known if zones and known else set())
        capacity = guide.get("capacity")
        capacity = DEFAULT_CAPACITY if capacity is None else capacity
        self._capacity[key] = max(capacity, self._capacity.get(key, 0))

    def knows(self, guide: str) -> bool:
        """Whether the guide was ever active."""
        return guide in self._zones

    def fits(self, zone: str | None, store: str, guide: str) -> bool:
        """Whether the store and the guide may serve the price zone (None: no zone was asked for)."""
        if zone is None:
            return True
        zones = self._zones.get(guide)
        return bool(self._kinds.get(store, set()) - {_FORBIDDEN_KIND.get(zone)}) and (
            not zones or zone in zones
        )

    def take(self, guide: str, at_ms: int) -> None:
        """Note that the guide holds one lead more from ``at_ms`` on."""
        self._loads.setdefault(guide, array("q")).append(2 * at_ms + 1)

    def release(self, guide: str, at_ms: int) -> None:
        """Note that the guide holds one lead less from ``at_ms`` on."""
        self._loads[guide].append(2 * (at_ms - _SKEW_MS))

    def over_capacity(self) -> list[str]:
        """Guides who at some moment held more leads than their highest capacity."""
        return [guide for guide, changes in self._loads.items() if self._exceeds(guide, changes)]

    def busiest(self) -> str | None:
        """The guide with the most offers and releases, None before the first."""
        return max(self._loads, key=lambda guide: len(self._loads[guide]), default=None)

    def _exceeds(self, guide: str, changes: array[int]) -> bool:
        capacity = self._capacity.get(guide, DEFAULT_CAPACITY)
        if len(changes) <= capacity:
            return False
        held = most = 0
        for change in sorted(changes):
            held += 1 if change & 1 else -1
            most = max(most, held)
        return most > capacity

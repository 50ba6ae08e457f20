"""Stores, guides and their presence, made from a store directory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from router.demo.directory import StoreRow
from topics.catalog import GUIDES, PRESENCE, STORES, Topic
from topics.fields import Event, Period
from topics.guides import Guide, Presence
from topics.stores import Store, StoreKind

GUIDES_PER_STORE = 3

_KINDS: tuple[StoreKind, ...] = ("full_price", "franchise", "outlet")
_KIND_WEIGHTS = (85, 5, 10)
_SLOTS_PER_SERVICE = 3
_SKILL_SHARE = 0.8
_OFFLINE_SHARE = 0.1
_BOTH_ZONES_SHARE = 0.2
#: Shifts around the time of the roster, in hours: most guides have none, some work now, some tomorrow.
_SHIFTS_H: tuple[tuple[int, int] | None, ...] = (None, (-4, 6), (20, 28))
_SHIFT_WEIGHTS = (65, 30, 5)
_HOUR_MS = 3_600_000


def roster(
    stores: Sequence[StoreRow], seed: int, *, brand: str = "demo", at_ms: int = 0
) -> Iterator[tuple[Topic, Event]]:
    """Yield every store, its three guides and their presence; the same for the same seed.

    Most stores sell at full price, one in ten is an outlet for special prices. Guides hold 5 to 40 leads at
    once, know most of their store's services at levels 1 to 5, one in ten is offline and one in twenty not on
    shift. ``at_ms`` dates presence and shifts. Stores give no hours: a demo runs at any time of the day.
    """
    for row in stores:
        rng = Random(f"roster/{seed}/{row.store_id}")  # noqa: S311 - a made-up world, not a secret
        (kind,) = rng.choices(_KINDS, _KIND_WEIGHTS)
        yield STORES, _store(row, kind, brand)
        for number in range(1, GUIDES_PER_STORE + 1):
            guide = _guide(row, kind, brand, number, rng, at_ms)
            yield GUIDES, guide
            status = "offline" if rng.random() < _OFFLINE_SHARE else "online"
            yield (
                PRESENCE,
                Presence(guide_id=guide.guide_id, brand=brand, status=status, occurred_at_ms=at_ms),  # type: ignore[arg-type]  # both are a status
            )


def guide_ids(stores: Sequence[StoreRow]) -> list[str]:
    """Who there is in such a roster."""
    return [f"{row.store_id}-{number}" for row in stores for number in range(1, GUIDES_PER_STORE + 1)]


def _store(row: StoreRow, kind: StoreKind, brand: str) -> Store:
    return Store(
        store_id=row.store_id,
        brand=brand,
        version=1,
        lat=row.lat,
        lon=row.lon,
        kind=kind,
        active=True,
        market=row.city,
        name=row.name,
        services=row.services,
        slot_minutes=60,
        slots=dict.fromkeys(row.services, _SLOTS_PER_SERVICE),
    )


def _guide(row: StoreRow, kind: StoreKind, brand: str, number: int, rng: Random, at_ms: int) -> Guide:  # noqa: PLR0913, PLR0917
    plan = Random(f"{row.store_id}/{number}/shift")  # noqa: S311 - a made-up world, not a secret
    (shift,) = plan.choices(_SHIFTS_H, _SHIFT_WEIGHTS)
    zone = "special" if kind == "outlet" else "full"
    return Guide(
        guide_id=f"{row.store_id}-{number}",
        brand=brand,
        version=1,
        store_id=row.store_id,
        active=True,
        name=f"{row.name} {number}",
        role="manager" if number == 1 else "guide",
        skills={service: rng.randint(1, 5) for service in row.services if rng.random() < _SKILL_SHARE},
        capacity=rng.randint(5, 40),
        level=rng.randint(1, 10),
        shifts=(Period(*(max(at_ms + hour * _HOUR_MS, 0) for hour in shift)),) if shift else (),
        price_zones=("full", "special") if rng.random() < _BOTH_ZONES_SHARE else (zone,),  # type: ignore[arg-type]  # both are zones
    )

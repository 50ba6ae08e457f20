"""A seeded stream of wishes: leads and reservations, repeated ones and broken ones among them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any, NamedTuple

import orjson

from router.demo.directory import StoreRow
from router.demo.malformed import MALFORMED
from router.errors import ConfigError
from topics.catalog import LEADS, RESERVATIONS, Topic

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
#: The country has one time zone, UTC+8, without summer time.
_ZONE_MS = 8 * _HOUR_MS
#: Standard deviation of a member's distance from the store next door, in degrees (about 2 km).
_SCATTER_DEG = 0.02
#: A repeated input follows its original within so many others.
_REPEAT_WITHIN = 256
_TIERS, _TIER_WEIGHTS = ("vip", "repeat", "new", "prospect"), (3, 22, 25, 50)
_ZONES, _ZONE_WEIGHTS = ("full", "special", None), (80, 12, 8)
_CHANNELS = ("mini-program", "live", "share", "partner", "store-scan")
#: How a lead says where: by its position, by the store's name, not at all.
_PLACES, _PLACE_WEIGHTS = ("position", "store", "nowhere"), (93, 5, 2)


class Input(NamedTuple):
    """One record to publish; ``event_id`` is what its lead or reservation is called, even in a broken one."""

    topic: Topic
    key: bytes
    value: bytes | None
    event_id: str


@dataclass(frozen=True, kw_only=True)
class Load:
    """``leads`` good and different leads, with so many other inputs between them that the shares come out.

    Shares are of all inputs, from 0 to below 1 together. ``hot_city_share`` of the leads come from the city
    with the most stores, whoever sends them; ``crowd_share`` of the reservations are for the same hour. The
    same seed and stores give the same records, except for the times, which hang on the clock that ``inputs``
    is given.

    Raises:
        ConfigError: no stores, or shares that leave no room for leads.

    """

    seed: int
    leads: int
    stores: Sequence[StoreRow]
    brand: str = "demo"
    reservation_share: float = 0.1
    duplicate_share: float = 0.02
    malformed_share: float = 0.01
    hot_city_share: float = 0.0
    crowd_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what would never end."""
        others = (self.reservation_share, self.duplicate_share, self.malformed_share)
        if not self.stores:
            raise ConfigError("a load needs at least one store")
        places = (self.hot_city_share, self.crowd_share)
        if min(*others, *places) < 0 or sum(others) >= 1 or max(places) > 1:
            raise ConfigError(
                "shares are from 0 to 1; reservations, duplicates and malformed leave room for leads"
            )

    def inputs(self, now_ms: Callable[[], int]) -> Iterator[Input]:
        """Yield the records; ``now_ms`` is asked once for each good or broken one, and dates it."""
        rng = Random(f"load/{self.seed}")  # noqa: S311 - a made-up world, not a secret
        others = (self.reservation_share, self.duplicate_share, self.malformed_share)
        weights = (1 - sum(others), *others)
        recent: deque[Input] = deque(maxlen=_REPEAT_WITHIN)
        made: Counter[str] = Counter()
        while made["lead"] < self.leads:
            (kind,) = rng.choices(("lead", "reservation", "duplicate", "malformed"), weights)
            if kind == "duplicate":
                if recent:
                    yield rng.choice(recent)
                continue
            made[kind] += 1
            name = f"{kind[0]}{made[kind]:07}"
            if kind == "reservation":
                good = _input(RESERVATIONS, self._reservation(rng, name, now_ms()), name)
            else:
                good = _input(LEADS, self._lead(rng, name, now_ms()), name)
            if kind == "malformed":
                yield good._replace(value=rng.choice(MALFORMED).spoil(orjson.loads(good.value or b"")))
            else:
                recent.append(good)
                yield good

    @cached_property
    def _hot_city(self) -> list[StoreRow]:
        ((city, _),) = Counter(store.city for store in self.stores).most_common(1)
        return [store for store in self.stores if store.city == city]

    def _member(self, rng: Random) -> tuple[str, StoreRow, str]:
        """A member, the store next door and the tier: these three always go together.

        Few members send many leads and many send few: the n-th member about as many as 1/sqrt(n).
        """
        member_id = f"m{int(self.leads * rng.random() ** 2):07}"
        traits = Random(f"member/{self.seed}/{member_id}")  # noqa: S311 - a made-up world, not a secret
        home = traits.choice(self.stores)
        (tier,) = traits.choices(_TIERS, _TIER_WEIGHTS)
        return member_id, home, tier

    def _lead(self, rng: Random, lead_id: str, at_ms: int) -> dict[str, Any]:
        member_id, home, tier = self._member(rng)
        if rng.random() < self.hot_city_share:
            home = rng.choice(self._hot_city)
        (zone,) = rng.choices(_ZONES, _ZONE_WEIGHTS)
        (place,) = rng.choices(_PLACES, _PLACE_WEIGHTS)
        lat, lon = rng.gauss(home.lat, _SCATTER_DEG), rng.gauss(home.lon, _SCATTER_DEG)
        lead: dict[str, Any] = {
            "lead_id": lead_id,
            "member_id": member_id,
            "brand": self.brand,
            "occurred_at_ms": at_ms,
            "source": {"channel": rng.choice(_CHANNELS)},
            "tier": tier,
            "needs": rng.sample(home.services, min(len(home.services), rng.choice((0, 0, 1, 1, 2)))),
            "value_fen": int(rng.lognormvariate(10.5, 1.0)),
        }
        if zone:
            lead["price_zone"] = zone
        if place == "position":
            lead |= {"lat": round(max(-90.0, min(90.0, lat)), 6), "lon": round((lon + 180) % 360 - 180, 6)}
        elif place == "store":
            lead["store_id"] = home.store_id
        return lead

    def _reservation(self, rng: Random, reservation_id: str, at_ms: int) -> dict[str, Any]:
        member_id, home, tier = self._member(rng)
        opens, closes = int(home.opens[:2]), int(home.closes[:2])
        midnight_ms = (at_ms + _ZONE_MS) // _DAY_MS * _DAY_MS - _ZONE_MS
        hour = rng.randrange(opens + 1, max(closes, opens + 2))
        starts_at_ms = midnight_ms + rng.randint(1, 7) * _DAY_MS + hour * _HOUR_MS
        (service,) = rng.choices(home.services) if home.services else (None,)
        crowd = Random(f"crowd/{self.seed}/{reservation_id}")  # noqa: S311 - a made-up world, not a secret
        if self.crowd_share and crowd.random() < self.crowd_share:
            # everybody wants the same hour, so that slots run out
            home, starts_at_ms = self.stores[0], midnight_ms + 2 * _DAY_MS + (opens + 2) * _HOUR_MS
            (service,) = crowd.choices(home.services) if home.services else (None,)
        return {
            "reservation_id": reservation_id,
            "version": 1,
            "member_id": member_id,
            "brand": self.brand,
            "occurred_at_ms": at_ms,
            "store_id": home.store_id,
            "starts_at_ms": starts_at_ms,
            "ends_at_ms": starts_at_ms + _HOUR_MS,
            "status": "booked",
            "tier": tier,
            **({"service": service} if service else {}),
        }


def _input(topic: Topic, event: dict[str, Any], name: str) -> Input:
    return Input(topic, event["member_id"].encode(), orjson.dumps(event), name)

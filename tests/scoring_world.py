"""Small made-up worlds of stores, guides and leads, in awkward corners of the earth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from scoring.arrays import Pairs
from scoring.build import build
from scoring.layout import cell_name
from scoring.opening import WEEKDAYS, Zone
from scoring.requests import TIERS, columns
from topics.fields import Period
from topics.guides import Guide, Presence
from topics.leads import Lead
from topics.reservations import Reservation
from topics.stores import Store

NOW_MS = 1_700_000_000_000
HOURS = ("09:00-21:00", "00:00-06:13", "06:13-06:14", "20:00-30:14", "22:00-48:00", "12:00-11:00")
TAGS = ("suits", "shoes", "bags")
KINDS = ("full_price", "outlet", "franchise", "partner", "hq")
#: Middle and spread in degrees: latitude, longitude.
REGIONS = {
    "city": (31.2, 121.5, 0.2, 0.2),
    "north pole": (89.9, 0.0, 0.2, 180.0),
    "south pole": (-89.9, 0.0, 0.2, 180.0),
    "date line": (-17.0, 180.0, 0.3, 0.3),
    "everywhere": (0.0, 0.0, 90.0, 180.0),
}


def clocks(name):
    """Two zones, of which the second one's clocks went back an hour ago; scoring itself knows none."""
    if name == "America/New_York":
        return Zone(np.array([0, NOW_MS - 3_600_000]), np.array([-240, -300], np.int32))
    return Zone(np.array([0]), np.array([480], np.int32))


@dataclass
class Home:
    """By ids: the lead's cell, its member's guide and last server, and the rest of what a caller fills in."""

    cell: str | None = None
    owner: str | None = None
    acted_ms: int = -1
    last: str | None = None
    last_contact_ms: int = -1
    partner_left: int = -1
    kept: bool = False
    declined: tuple[str, ...] = ()
    no_slot: tuple[str, ...] = ()


@dataclass
class World:
    stores: list[Store]
    guides: list[Guide]
    presence: list[Presence]
    events: list[Lead | Reservation]
    homes: dict[str, Home]
    """What is known of each lead from elsewhere than its event."""

    def roster(self):
        roster = build(self.stores, self.guides, self.presence, capacity_default=2, zones=clocks)
        # The load goes by the guide's own number, so that it is the same in any order of rows.
        load = [int(guide_id[1:]) % 4 for guide_id in roster.guide_ids]
        roster.set_load(np.arange(len(load)), np.array(load, np.int32))
        # so do the other numbers that come from elsewhere
        number = np.array([int(guide_id[1:]) for guide_id in roster.guide_ids], np.int64)
        rows = np.arange(number.size)
        roster.guide_book[rows] = number % 5
        roster.guide_turn[rows] = number % 7 * 400_000
        roster.guide_offered[rows], roster.guide_answered[rows] = number % 11, number % 11 // 2
        roster.guide_closed[rows], roster.guide_won[rows] = number % 6, number % 6 // 3
        roster.guide_seen_ms[rows] = NOW_MS - number * 86_400_000
        roster.guide_paused_ms[rows] = NOW_MS + (number % 13 == 5)
        roster.cell_clock[: len(roster.cells)] = [1_000_000 + 300_000 * len(name) for name in roster.cells]
        return roster

    def requests(self, roster):
        requests = columns(self.events, roster)
        for row, event in enumerate(self.events):
            home = self.homes[event_id(event)]
            if home.cell is not None:
                requests.cell[row] = roster.cell_row(home.cell)
            if home.owner is not None:
                requests.owner_row[row] = roster.guide_row(event.brand, home.owner)
            if home.last is not None:
                requests.last_row[row] = roster.guide_row(event.brand, home.last)
            requests.owner_acted_ms[row] = home.acted_ms
            requests.last_contact_ms[row] = home.last_contact_ms
            requests.partner_left[row] = home.partner_left
            requests.kept[row] = home.kept
        requests.declined = self._pairs("declined", roster.guide_row)
        requests.no_slot = self._pairs("no_slot", roster.store_row)
        return requests

    def _pairs(self, name, row_of):
        pairs = [
            (row, row_of(event.brand, other))
            for row, event in enumerate(self.events)
            for other in getattr(self.homes[event_id(event)], name)
        ]
        known = np.array([pair for pair in pairs if pair[1] >= 0], np.int32).reshape(-1, 2)
        return Pairs(known[:, 0], known[:, 1])

    def shuffled(self, seed):
        rng = np.random.default_rng(seed)
        mixed = [[xs[i] for i in rng.permutation(len(xs))] for xs in (self.stores, self.guides, self.events)]
        stores, guides, events = mixed
        return World(stores, guides, self.presence, events, self.homes)


def event_id(event):
    return event.lead_id if isinstance(event, Lead) else event.reservation_id


def world(seed, region="city", n_stores=30, n_guides=80, n_events=25):
    """A world; the same arguments give the same one."""
    rng = np.random.default_rng(seed)

    def places(n):
        lat, lon, lat_spread, lon_spread = REGIONS[region]
        lats = np.clip(lat + rng.uniform(-lat_spread, lat_spread, n), -90, 90)
        lons = (lon + rng.uniform(-lon_spread, lon_spread, n) + 180) % 360 - 180
        return list(zip(lats.tolist(), lons.tolist(), strict=True))

    def maybe(chance, value):
        return value if rng.random() < chance else None

    def some(values):
        return tuple(value for value in values if rng.random() < 0.4)

    def pick(values):
        return values[rng.integers(len(values))]

    stores = [
        Store(
            store_id=f"s{i // 2}",
            brand="ab"[i % 2],
            version=1,
            lat=lat,
            lon=lon,
            kind=pick(KINDS),
            active=rng.random() < 0.9,
            market=pick((None, "上海/浦东", "m")),
            hours=maybe(0.5, {day: pick(HOURS) for day in WEEKDAYS if rng.random() < 0.8}) or {},
            closed_days=(pick(("2023-11-14", "2023-11-15", "2023-11-16", "2023-02-31")),)
            * (rng.random() < 0.3),
            timezone=pick((None, "Asia/Shanghai", "America/New_York")),
        )
        for i, (lat, lon) in enumerate(places(n_stores))
    ]
    guides = [
        Guide(
            guide_id=f"g{i}",
            brand=pick("ab"),
            version=1,
            store_id=f"s{rng.integers(n_stores // 2 + 2)}",
            active=rng.random() < 0.9,
            skills={tag: int(rng.integers(1, 6)) for tag in some(TAGS)},
            capacity=maybe(0.5, int(rng.integers(0, 6))),
            price_zones=some(("full", "special")),
            book_max=maybe(0.5, int(rng.integers(0, 6))),
            level=maybe(0.7, int(rng.integers(1, 11))),
            weight=maybe(0.5, float(rng.integers(0, 4))),
            prefers=some(TAGS),
            shifts=(Period(from_ms=NOW_MS - 7, to_ms=NOW_MS + int(rng.integers(-5, 5))),) * (i % 7 == 0),
            leave=(Period(from_ms=NOW_MS - 5, to_ms=NOW_MS + int(rng.integers(-5, 5))),) * (i % 5 == 0),
        )
        for i in range(n_guides)
    ]
    presence = [
        Presence(
            guide_id=g.guide_id, brand=g.brand, status=pick(("online", "away", "offline")), occurred_at_ms=1
        )
        for g in guides[::2]
    ]
    events: list[Lead | Reservation] = []
    homes: dict[str, Home] = {}
    for i, (lat, lon) in enumerate(places(n_events)):
        brand = pick("aab") if rng.random() < 0.95 else "unknown"
        store_id = f"s{rng.integers(n_stores // 2 + 2)}"
        needs = some((*TAGS, "nobody has it")) if rng.random() < 0.3 else ()
        shared = {
            "member_id": f"m{i}",
            "brand": brand,
            "occurred_at_ms": NOW_MS - int(rng.integers(0, 10**8)),
            "needs": needs,
            "tier": maybe(0.7, pick(TIERS)),
            "value_fen": maybe(0.7, int(rng.integers(0, 10**6))),
        }
        if i % 5 == 4:
            event = Reservation(
                reservation_id=f"e{i}",
                version=1,
                store_id=store_id,
                starts_at_ms=NOW_MS,
                ends_at_ms=NOW_MS + 1,
                status="booked",
                **shared,
            )
        else:
            known = rng.random() < 0.8
            event = Lead(
                lead_id=f"e{i}",
                lat=lat if known else None,
                lon=lon if known else None,
                store_id=maybe(0.4, store_id),
                price_zone=maybe(0.5, pick(("full", "special"))),
                only_owner=rng.random() < 0.1,
                in_stock=tuple(f"s{s}" for s in range(n_stores // 2 + 2) if rng.random() < 0.5)
                if rng.random() < 0.3
                else (),
                **shared,
            )
        events.append(event)
        cells = [cell_name(s.brand, s.market) for s in stores if s.brand == brand]
        owners = [g.guide_id for g in guides if g.brand == brand]
        homes[f"e{i}"] = Home(
            cell=maybe(0.9, pick(cells)) if cells else None,
            owner=maybe(0.4, pick(owners)) if owners else None,
            acted_ms=int(rng.choice((-1, NOW_MS, NOW_MS - 10**9, NOW_MS - 10**11, NOW_MS + 9))),
            last=maybe(0.4, pick(owners)) if owners else None,
            last_contact_ms=int(rng.choice((-1, NOW_MS - 1, NOW_MS - 10**8, NOW_MS - 10**10, NOW_MS + 9))),
            partner_left=int(rng.choice((-1, -1, -1, 0, 2))),
            kept=bool(rng.random() < 0.1),
            declined=tuple(owner for owner in owners if rng.random() < 0.1),
            no_slot=tuple(f"s{s}" for s in range(n_stores) if rng.random() < 0.2),
        )
    return World(stores, guides, presence, events, homes)


def worlds():
    """Worlds of every region and size, the empty one among them."""
    return st.builds(
        world,
        seed=st.integers(0, 2**32 - 1),
        region=st.sampled_from(sorted(REGIONS)),
        n_stores=st.sampled_from((0, 1, 2, 10, 60)),
        n_guides=st.sampled_from((0, 1, 20, 120)),
        n_events=st.sampled_from((0, 1, 12)),
    )

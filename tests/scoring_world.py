"""Small made-up worlds of stores, guides and leads, in awkward corners of the earth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from scoring.layout import cell_name
from scoring.requests import columns
from scoring.roster import build
from topics.fields import Period
from topics.guides import Guide, Presence
from topics.leads import Lead
from topics.reservations import Reservation
from topics.stores import Store

NOW_MS = 1_700_000_000_000
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


@dataclass
class World:
    stores: list[Store]
    guides: list[Guide]
    presence: list[Presence]
    events: list[Lead | Reservation]
    homes: dict[str, tuple[str | None, str | None]]
    """Id of a lead to its cell and the member's guide."""

    def roster(self):
        roster = build(self.stores, self.guides, self.presence, capacity_default=2)
        # The load goes by the guide's own number, so that it is the same in any order of rows.
        load = [int(guide_id[1:]) % 4 for guide_id in roster.guide_ids]
        roster.set_load(np.arange(len(load)), np.array(load, np.int32))
        return roster

    def requests(self, roster):
        requests = columns(self.events, roster)
        for row, event in enumerate(self.events):
            cell, owner = self.homes[event_id(event)]
            if cell is not None:
                requests.cell[row] = roster.cell_row(cell)
            if owner is not None:
                requests.owner_row[row] = roster.guide_row(event.brand, owner)
        return requests

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
    homes: dict[str, tuple[str | None, str | None]] = {}
    for i, (lat, lon) in enumerate(places(n_events)):
        brand = pick("aab") if rng.random() < 0.95 else "unknown"
        store_id = f"s{rng.integers(n_stores // 2 + 2)}"
        needs = some((*TAGS, "nobody has it")) if rng.random() < 0.3 else ()
        shared = {"member_id": f"m{i}", "brand": brand, "occurred_at_ms": NOW_MS, "needs": needs}
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
                in_stock=tuple(f"s{s}" for s in range(n_stores // 2 + 2) if rng.random() < 0.5)
                if rng.random() < 0.3
                else (),
                **shared,
            )
        events.append(event)
        cells = [cell_name(s.brand, s.market) for s in stores if s.brand == brand]
        owners = [g.guide_id for g in guides if g.brand == brand]
        homes[f"e{i}"] = (
            maybe(0.9, pick(cells)) if cells else None,
            maybe(0.4, pick(owners)) if owners else None,
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

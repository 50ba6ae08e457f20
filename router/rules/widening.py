"""Where a lead looks that nobody nearby has taken: other markets of its region, then headquarters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from topics.assignments import Rung
from topics.leads import Lead
from topics.reservations import Reservation
from topics.stores import Store


@dataclass(frozen=True, slots=True)
class Spot:
    """A store as far as widening goes."""

    store_id: str
    lat: float
    lon: float
    cell: str


class Places:
    """Stores side by side, by their ids, so that a group of any size is searched at once."""

    def __init__(self, spots: Iterable[Spot] = ()) -> None:
        self.spots = sorted(spots, key=lambda each: each.store_id)

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Latitude, longitude and cell of each."""
        lat, lon = (np.array([getattr(each, name) for each in self.spots]) for name in ("lat", "lon"))
        return lat, lon, np.array([each.cell for each in self.spots])

    def nearest(
        self, lat: float, lon: float, cell: str | None = None, beside: str | None = None
    ) -> Spot | None:
        """The one nearest to a place, degrees; of a cell, or of any cell but one; the first id of equals."""
        if not self.spots:
            return None
        lats, lons, cells = self._columns
        east = ((lons - lon + 180) % 360 - 180) * math.cos(math.radians(lat))
        far = (lats - lat) ** 2 + east**2  # squared degrees: enough to tell which is nearer
        if cell is not None:
            far[cells != cell] = np.inf
        if beside is not None:
            far[cells == beside] = np.inf
        best = int(far.argmin())
        return self.spots[best] if far[best] < np.inf else None


_NOWHERE = Places()


@dataclass(frozen=True, slots=True)
class Map:
    """The open stores of a brand: all by id, and those of each region and of headquarters."""

    spots: Mapping[str, Spot] = field(default_factory=dict)
    everywhere: Places = field(default_factory=Places)
    region_of: Mapping[str, str] = field(default_factory=dict)
    regions: Mapping[str, Places] = field(default_factory=dict)
    headquarters: Places = field(default_factory=Places)


def survey(stores: Iterable[tuple[Store, str]]) -> Map:
    """A map of a brand's stores, each with its cell."""
    spots: dict[str, Spot] = {}
    region_of: dict[str, str] = {}
    regions: dict[str, list[Spot]] = {}
    headquarters: list[Spot] = []
    for store, cell in stores:
        if not store.active:
            continue
        spot = spots[store.store_id] = Spot(store.store_id, store.lat, store.lon, cell)
        if store.kind == "hq":
            headquarters.append(spot)
        elif store.region is not None:
            region_of[store.store_id] = store.region
            regions.setdefault(store.region, []).append(spot)
    groups = {region: Places(those) for region, those in regions.items()}
    return Map(spots, Places(spots.values()), region_of, groups, Places(headquarters))


def further(event: Lead | Reservation, cell: str, rung: Rung, here: Map) -> tuple[Rung, str]:
    """The rung and the cell of a lead that has waited in vain: headquarters where its region ends."""
    if rung == "region":
        other = spot(event, None, rung, here, beside=cell)
        if other is not None:
            return rung, other.cell
        rung = "hq"
    team = spot(event, None, rung, here)
    return rung, cell if team is None else team.cell


def spot(
    event: Lead | Reservation, cell: str | None, rung: Rung, here: Map, beside: str | None = None
) -> Spot | None:
    """The store around which a lead is offered on a rung: of a cell, or of any cell but one."""
    start = _start(event, here)
    if start is None:
        return None
    candidates = here.headquarters
    if rung == "region":
        candidates = here.regions.get(here.region_of.get(start.store_id, ""), _NOWHERE)
    return candidates.nearest(start.lat, start.lon, cell, beside)


def _start(event: Lead | Reservation, here: Map) -> Spot | None:
    """The store that a lead names, else the one nearest to it; any where nobody knows."""
    if event.store_id is not None and event.store_id in here.spots:
        return here.spots[event.store_id]
    lat, lon = (event.lat, event.lon) if isinstance(event, Lead) else (None, None)
    if lat is None or lon is None:
        return next(iter(here.spots.values()), None)
    return here.everywhere.nearest(lat, lon)

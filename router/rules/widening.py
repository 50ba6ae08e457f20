"""Where a lead looks that nobody nearby has taken: other markets of its region, then headquarters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
class Map:
    """The open stores of a brand: all by id, and those of each region and of headquarters."""

    spots: Mapping[str, Spot] = field(default_factory=dict)
    region_of: Mapping[str, str] = field(default_factory=dict)
    regions: Mapping[str, Sequence[Spot]] = field(default_factory=dict)
    headquarters: Sequence[Spot] = ()


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
    return Map(spots, region_of, regions, headquarters)


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
    start = _nearest(event, here.spots.values())
    if start is None:
        return None
    candidates = here.headquarters
    if rung == "region":
        candidates = here.regions.get(here.region_of.get(start.store_id, ""), ())
    fit = [each for each in candidates if cell in {None, each.cell} and each.cell != beside]
    return min(fit, key=lambda each: (_square_km(each, start.lat, start.lon), each.store_id), default=None)


def _nearest(event: Lead | Reservation, spots: Iterable[Spot]) -> Spot | None:
    """The store that a lead names, else the one nearest to it; any where nobody knows."""
    if event.store_id is not None:
        named = next((each for each in spots if each.store_id == event.store_id), None)
        if named is not None:
            return named
    lat, lon = (event.lat, event.lon) if isinstance(event, Lead) else (None, None)
    if lat is None or lon is None:
        return next(iter(spots), None)
    return min(spots, key=lambda each: (_square_km(each, lat, lon), each.store_id), default=None)


def _square_km(spot: Spot, lat: float, lon: float) -> float:
    """About how far, squared: enough to tell which is nearer."""
    east = (spot.lon - lon + 180) % 360 - 180
    return (spot.lat - lat) ** 2 + (east * math.cos(math.radians(lat))) ** 2

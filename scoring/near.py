"""Stores around places, for a batch at once: a disc doubles until it holds enough or reaches the limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scoring import grid
from scoring.arrays import Bools, F32s, I32s, I64s, Rows, spans
from scoring.roster import Roster


@dataclass(slots=True, eq=False)
class Search:
    """What is looked for around n places; a place of NaN or of a brand -1 is not searched."""

    lat: F32s  #: degrees
    lon: F32s
    brand: I32s
    keep: Callable[[Rows, Rows], Bools]  #: which pairs of place and store count
    worth_before: I64s  #: [stores + 1] what all stores before each one are worth
    need: int  #: a disc that holds this worth is wide enough
    sparse: Bools  #: places where only the widest disc will do
    radius_km: float  #: the widest disc


@dataclass(slots=True, eq=False)
class Near:
    """Pairs of a place and a store within the place's disc, flat, in no order."""

    place: I64s
    store: I64s
    km: F32s
    disc_km: F32s  #: [n] the radius of each place's disc, -1 where there was no search


def near(search: Search, roster: Roster) -> Near:
    """The stores in the smallest disc around each place that holds what is needed."""
    xyz = grid.unit(search.lat, search.lon)
    disc_km = np.full(search.lat.size, -1, np.float32)
    todo = np.flatnonzero(~np.isnan(search.lat) & (search.brand >= 0))
    found: list[tuple[Rows, Rows, F32s]] = []
    for radius_km in _radii(search.radius_km):
        widest = radius_km == search.radius_km
        tried = todo if widest else todo[~search.sparse[todo]]
        place, first, count, worth = _runs(search, roster, tried, radius_km)
        if not widest:
            # The squares hold the disc and more: where they do not hold enough, the disc cannot.
            hope = np.bincount(place, worth, search.lat.size) >= search.need
            place, first, count = (column[hope[place]] for column in (place, first, count))
        place, store = np.repeat(place, count), spans(first, count)
        km = grid.distance_km(xyz, place, roster.store_xyz, store)
        inside = np.flatnonzero((km <= np.float32(radius_km)) & search.keep(place, store))
        place, store, km = place[inside], store[inside], km[inside]
        worth = search.worth_before.take(store + 1) - search.worth_before.take(store)
        done = np.bincount(place, worth, search.lat.size) >= search.need
        if widest:
            done[todo] = True
        disc_km[todo[done[todo]]] = radius_km
        todo = todo[~done[todo]]
        inside = np.flatnonzero(done[place])
        found.append((place[inside], store[inside], km[inside]))
        if not todo.size:
            break
    places, stores, kms = zip(*found, strict=True)
    return Near(np.concatenate(places), np.concatenate(stores), np.concatenate(kms), disc_km)


def _runs(search: Search, roster: Roster, tried: Rows, radius_km: float) -> tuple[Rows, Rows, Rows, Rows]:
    """Runs of store rows that cover the discs: flat ``(place, first store, how many, worth)``, none empty."""
    lat, lon = search.lat[tried].astype(np.float64), search.lon[tried].astype(np.float64)
    place, first, last = grid.covering(lat, lon, radius_km)
    place = tried[place]
    base = search.brand[place] * np.int64(grid.SQUARES)
    begin = np.searchsorted(roster.store_key, base + first)
    end = np.searchsorted(roster.store_key, base + last, side="right")
    some = np.flatnonzero(end > begin)
    begin, end = begin[some], end[some]
    return place[some], begin, end - begin, search.worth_before[end] - search.worth_before[begin]


def _radii(widest_km: float) -> Iterator[float]:
    radius_km = grid.SQUARE_KM
    while radius_km < widest_km:
        yield radius_km
        radius_km *= 2
    yield widest_km

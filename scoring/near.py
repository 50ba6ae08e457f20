"""Stores around places, for a batch at once: a disc widens until it holds enough or reaches the limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scoring import grid
from scoring.arrays import Bools, F32s, F64s, I32s, Rows, before, gaps, spans, true_at
from scoring.roster import Roster

#: From one disc to the next the area doubles, so at most about twice as many are looked at as are needed.
_WIDER = math.sqrt(2)


@dataclass(slots=True, eq=False)
class Search:
    """What is looked for around n places; a place of NaN or of a brand -1 is not searched."""

    lat: F32s  #: degrees
    lon: F32s
    xyz: F32s  #: the same on the unit sphere
    brand: I32s
    keep: Callable[[Rows, Rows], Bools] | None  #: which pairs of place and store count; None: all
    worth: I32s | None  #: [stores] what each store is worth; None: 1
    worth_before: Rows  #: [stores in the index + 1] what all stores before each one are worth
    need: int  #: a disc that holds this worth is wide enough
    sparse: Bools  #: places where only the widest disc will do
    radius_km: float  #: the widest disc


@dataclass(slots=True, eq=False)
class Near:
    """Pairs of a place and a store within the place's disc, flat, in no order."""

    place: Rows
    store: Rows
    km: F32s
    disc_km: F32s  #: [n] the radius of each place's disc, -1 where there was no search
    short: Bools  #: [n] no disc held enough


def near(search: Search, roster: Roster) -> Near:
    """The stores in the smallest disc around each place that holds what is needed."""
    disc_km = np.full(search.lat.size, -1, np.float32)
    short = np.ones(search.lat.size, np.bool_)
    todo = true_at(~np.isnan(search.lat) & (search.brand >= 0))
    found: list[tuple[Rows, Rows, F32s]] = []
    for radius_km in _radii(search.radius_km):
        widest = radius_km == search.radius_km
        tried = todo if widest else todo[~search.sparse[todo]]
        if not tried.size:
            continue
        place, first, count, worth = _runs(search, roster, tried, radius_km)
        if not widest:
            # The strips hold the disc and more: where they do not hold enough, the disc cannot.
            hope = np.bincount(place, worth, search.lat.size) >= search.need
            hopeful = true_at(hope[place])
            if not hopeful.size:
                continue
            place, first, count = place[hopeful], first[hopeful], count[hopeful]
        run_place = place
        place, store = place.repeat(count), roster.square_store.take(spans(first, count)).astype(np.int64)
        from_place = search.xyz.take(run_place, axis=1).repeat(count, axis=1)
        km = grid.distance_km(from_place, None, roster.store_xyz, store)
        within = km <= np.float32(radius_km)
        if search.keep is not None:
            within &= search.keep(place, store)
        enough = _worth_within(search, within, store, run_place, count) >= search.need
        short &= ~enough
        done = enough
        if widest:
            done[todo] = True
        ready = done[todo]
        disc_km[todo[ready]] = radius_km
        todo = todo[~ready]
        if todo.size:
            within &= done.take(place)
        inside = true_at(within)
        found.append((place.take(inside), store.take(inside), km.take(inside)))
        if not todo.size:
            break
    return Near(*_end_to_end(found), disc_km, short)


def _end_to_end(found: list[tuple[Rows, Rows, F32s]]) -> tuple[Rows, Rows, F32s]:
    if len(found) == 1:
        return found[0]
    none = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    place, store, km = zip(none, *found, strict=True)
    return np.concatenate(place), np.concatenate(store), np.concatenate(km)


def _worth_within(search: Search, within: Bools, store: Rows, run_place: Rows, count: Rows) -> F64s:
    """What the stores within the disc of each place are worth: summed by run first."""
    worth = within.astype(np.int32)
    if search.worth is not None:
        worth *= search.worth.take(store)
    by_run = gaps(before(worth).take(before(count)))
    worths: F64s = np.bincount(run_place, by_run, search.lat.size).astype(np.float64)
    return worths


def _runs(search: Search, roster: Roster, tried: Rows, radius_km: float) -> tuple[Rows, Rows, Rows, Rows]:
    """Runs of the index that cover the discs: flat ``(place, first, how many, worth)``, none empty."""
    lat, lon = search.lat[tried].astype(np.float64), search.lon[tried].astype(np.float64)
    place, first, last = grid.covering(lat, lon, radius_km)
    place = tried[place]
    base = search.brand[place] * np.int64(grid.SQUARES)
    # who asks for the end of a run right after its beginning finds most of the way in the cache
    ends = np.stack((base + first, base + (last + 1)), axis=1)
    begin, end = np.searchsorted(roster.square_key, ends).T
    some = true_at(end > begin)
    begin, end = begin[some], end[some]
    return place[some], begin, end - begin, search.worth_before[end] - search.worth_before[begin]


def _radii(widest_km: float) -> Iterator[float]:
    radius_km = grid.SQUARE_KM
    while radius_km < widest_km:
        yield radius_km
        radius_km *= _WIDER
    yield widest_km

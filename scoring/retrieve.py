"""Who is looked at for each lead: the named store's guides, the owner, and the guides of stores nearby."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoring import grid
from scoring.arrays import F32s, I32s, Rows, spans
from scoring.near import Search, near
from scoring.policy import Policy
from scoring.requests import Requests
from scoring.roster import Roster


@dataclass(slots=True, eq=False)
class Candidates:
    """Pairs of a lead and a guide, flat, ascending by lead, each pair once."""

    lead_row: I32s
    guide_row: I32s
    km: F32s  #: from the lead's place to the guide's store


def candidates(requests: Requests, roster: Roster, policy: Policy) -> Candidates:
    """The guides worth scoring, all of the lead's brand and cell.

    Nearby is the disc that doubles from 2 km until it holds ``candidates_min`` guides of the cell, or reaches
    ``radius_km``. A request that fixes its store gets that store's guides and no others. A lead without
    coordinates stands where its named store is, else its owner's.
    """
    lat, lon = _places(requests, roster)
    search = Search(
        lat=np.where((requests.cell >= 0) & ~requests.fixed_store, lat, np.float32(np.nan)),
        lon=lon,
        brand=requests.brand,
        keep=lambda lead, store: roster.store_cell.take(store) == requests.cell.take(lead),
        worth_before=roster.store_guides_start,
        need=policy.candidates_min,
        sparse=roster.cell_guides[requests.cell] < policy.candidates_min,
        radius_km=policy.radius_km,
    )
    around = near(search, roster)
    xyz = grid.unit(lat, lon)
    named_lead, named, named_km = _named(requests, roster, xyz, around.disc_km)
    owned_lead, owner, owner_km = _owned(requests, roster, xyz, around.disc_km)
    store = np.concatenate((around.store, named))
    first, end = roster.store_guides_start.take(store), roster.store_guides_start.take(store + 1)
    lead = np.concatenate((around.place, named_lead, owned_lead))
    count = np.concatenate((end - first, np.ones_like(owner)))
    first = np.concatenate((first, owner))
    km = np.concatenate((around.km, named_km, owner_km))
    order = np.argsort(lead, kind="stable")
    count = count[order]
    return Candidates(
        lead_row=np.repeat(lead[order].astype(np.int32), count),
        guide_row=spans(first[order], count).astype(np.int32),
        km=np.repeat(km[order], count),
    )


def nearest_store(requests: Requests, roster: Roster, policy: Policy) -> I32s:
    """The row of the nearest active store of each lead's brand within the policy's radius, -1 without one.

    Only a lead's own coordinates count. Of stores equally far the one with the lower hash is taken.
    """
    search = Search(
        lat=requests.lat,
        lon=requests.lon,
        brand=requests.brand,
        keep=lambda _, store: roster.store_active.take(store),
        worth_before=np.arange(len(roster.store_ids) + 1),
        need=1,
        sparse=np.zeros(len(requests), np.bool_),
        radius_km=policy.radius_km,
    )
    around = near(search, roster)
    # Floats that are not negative compare as their bits do, so one integer holds distance and hash.
    distance = around.km.view(np.uint32).astype(np.uint64) << np.uint64(32)
    key = distance | roster.store_hash.take(around.store)
    best = np.full(len(requests), np.iinfo(np.uint64).max)
    np.minimum.at(best, around.place, key)
    won = key == best.take(around.place)
    nearest = np.full(len(requests), -1, np.int32)
    nearest[around.place[won]] = around.store[won]
    return nearest


def km_to_guides(requests: Requests, roster: Roster, lead: Rows, guide: Rows) -> F32s:
    """Kilometres from leads to guides' stores, the very floats that `candidates` gives for these pairs.

    Infinite for a lead that nobody can place: it has no candidates, but may have had a guide before.
    """
    xyz = grid.unit(*_places(requests, roster))
    km = grid.distance_km(xyz, lead, roster.store_xyz, roster.guide_store.take(guide))
    return np.where(np.isnan(km), np.float32(np.inf), km)


def _places(requests: Requests, roster: Roster) -> tuple[F32s, F32s]:
    """Where each lead stands, in degrees: NaN where nobody knows."""
    lat, lon = requests.lat.copy(), requests.lon.copy()
    owned = np.flatnonzero(requests.owner_row >= 0)
    owner_store = np.full_like(requests.store_row, -1)
    owner_store[owned] = roster.guide_store[requests.owner_row[owned]]
    for store in (requests.store_row, owner_store):
        blank = np.flatnonzero(np.isnan(lat) & (store >= 0))
        lat[blank], lon[blank] = roster.store_lat[store[blank]], roster.store_lon[store[blank]]
    return lat, lon


def _named(requests: Requests, roster: Roster, xyz: F32s, disc_km: F32s) -> tuple[Rows, Rows, F32s]:
    """Leads whose named store is of their cell and outside of their disc, that store, and how far it is."""
    lead = np.flatnonzero(requests.store_row >= 0)
    store = requests.store_row[lead]
    km = grid.distance_km(xyz, lead, roster.store_xyz, store)
    wanted = (roster.store_cell[store] == requests.cell[lead]) & (km > disc_km[lead])
    return lead[wanted], store[wanted], km[wanted]


def _owned(requests: Requests, roster: Roster, xyz: F32s, disc_km: F32s) -> tuple[Rows, Rows, F32s]:
    """Leads whose owner is of their cell, not in their disc nor of their named store, and the owner."""
    lead = np.flatnonzero((requests.owner_row >= 0) & ~requests.fixed_store)
    owner = requests.owner_row[lead]
    store = roster.guide_store[owner]
    km = grid.distance_km(xyz, lead, roster.store_xyz, store)
    wanted = (roster.store_cell[store] == requests.cell[lead]) & (km > disc_km[lead])
    wanted &= store != requests.store_row[lead]
    return lead[wanted], owner[wanted].astype(np.int64), km[wanted]

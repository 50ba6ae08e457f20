"""Who is looked at for each lead: guides nearby, of the named store, of headquarters, owner, last server."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoring import grid
from scoring.arrays import Bools, F32s, I32s, I64s, Rows, U64s, spans, true_at
from scoring.merge import merged
from scoring.near import Near, Search, near
from scoring.policy import Policy
from scoring.requests import Requests
from scoring.roster import Roster


@dataclass(slots=True, eq=False)
class Runs:
    """Candidates, ascending by lead: for each lead and store some guides, which are one run."""

    lead: I64s
    store: I64s
    first: I64s  #: row of the first guide
    count: I64s
    km: F32s  #: from the lead's place to the store; infinite where nobody knows


@dataclass(slots=True, eq=False)
class Candidates:
    """Pairs of a lead and a guide, flat, ascending by lead, each pair once."""

    lead_row: I32s
    guide_row: I32s
    km: F32s  #: from the lead's place to the guide's store


def candidates(requests: Requests, roster: Roster, policy: Policy) -> Candidates:
    """The guides worth scoring, all of the lead's brand and cell, one by one; see `runs`."""
    found = runs(requests, roster, policy)
    return Candidates(
        lead_row=np.repeat(found.lead, found.count).astype(np.int32),
        guide_row=spans(found.first, found.count).astype(np.int32),
        km=np.repeat(found.km, found.count),
    )


def runs(requests: Requests, roster: Roster, policy: Policy) -> Runs:
    """The guides worth scoring, all of the lead's brand and cell.

    Nearby is the disc of 2 km whose area doubles until it holds ``candidates_min`` guides of the cell, or
    reaches ``radius_km``; where it never holds enough, the guides of the cell's headquarters join in. A
    request that fixes its store gets that store's guides and no others. A lead without coordinates stands
    where its named store is, else its owner's, else nowhere.
    """
    lat, lon = _places(requests, roster)
    xyz = grid.unit(lat, lon)
    free = (requests.cell >= 0) & ~requests.fixed_store
    search = Search(
        lat=np.where(free, lat, np.float32(np.nan)),
        lon=lon,
        xyz=xyz,
        brand=requests.brand,
        keep=None
        if len(roster.cells) == 1
        else lambda lead, store: roster.store_cell.take(store) == requests.cell.take(lead),
        worth=roster.store_guides_count,
        worth_before=roster.square_worth,
        need=policy.candidates_min,
        sparse=roster.cell_guides[requests.cell] < policy.candidates_min,
        radius_km=policy.radius_km,
    )
    around = near(search, roster)
    reach = _Reach(requests, roster, xyz, around, free & around.short)
    stores = [reach.named(), reach.headquarters()]
    guides = [reach.joined(requests.owner_row), reach.last()]
    lead = np.concatenate([part[0] for part in stores + guides])
    alone = np.concatenate([part[1] for part in guides])
    store = np.concatenate([part[1] for part in stores] + [roster.guide_store[alone]])
    km = np.concatenate([part[2] for part in stores + guides])
    order = merged(around.place, lead)
    lead = order(around.place, lead).astype(np.int64, copy=False)
    store = order(around.store, store).astype(np.int64)
    first = roster.store_guides_start.take(store).astype(np.int64)
    count = roster.store_guides_count.take(store).astype(np.int64)
    last = order.few[order.few.size - alone.size :]
    first[last], count[last] = alone, 1
    return Runs(lead, store, first, count, order(around.km, km))


@dataclass(slots=True, eq=False)
class _Reach:
    """Who joins in beside the guides around: each method gives flat ``(lead, store or guide, km)``."""

    requests: Requests
    roster: Roster
    xyz: F32s
    around: Near
    short: Bools  #: leads that headquarters' guides join

    def named(self) -> tuple[Rows, Rows, F32s]:
        """Leads whose named store is of their cell and outside of their disc, and the store."""
        lead = true_at(self.requests.store_row >= 0)
        store = self.requests.store_row[lead]
        km, outside = self._outside(lead, store)
        return lead[outside], store[outside], km[outside]

    def headquarters(self) -> tuple[Rows, Rows, F32s]:
        """Leads that are short of guides, and the cell's stores of kind hq, unless named or in the disc."""
        short, hq = true_at(self.short), self.roster.hq_stores
        if not short.size or not hq.size:
            return short[:0], hq[:0], self.around.km[:0]
        cell = self.roster.store_cell[hq]
        order = np.argsort(cell, kind="stable")
        first = np.searchsorted(cell[order], self.requests.cell[short])
        count = np.searchsorted(cell[order], self.requests.cell[short], side="right") - first
        lead, store = np.repeat(short, count), hq[order][spans(first, count)]
        km, outside = self._outside(lead, store)
        outside &= store != self.requests.store_row[lead]
        return lead[outside], store[outside], km[outside]

    def joined(self, guide_row: I32s) -> tuple[Rows, Rows, F32s]:
        """Leads whose guide of this column is of their cell and no store above, and the guide."""
        lead = true_at((guide_row >= 0) & ~self.requests.fixed_store)
        guide = guide_row[lead].astype(np.int64)
        if not lead.size:
            return lead, guide, self.around.km[:0]
        store = self.roster.guide_store[guide]
        km, wanted = self._outside(lead, store)
        wanted &= store != self.requests.store_row[lead]
        if self.roster.hq_stores.size:
            wanted &= ~(self.short[lead] & np.isin(store, self.roster.hq_stores))
        return lead[wanted], guide[wanted], km[wanted]

    def last(self) -> tuple[Rows, Rows, F32s]:
        """Leads and their last server, where that is not the owner."""
        row = self.requests.last_row
        return self.joined(np.where(row == self.requests.owner_row, np.int32(-1), row))

    def _outside(self, lead: Rows, store: Rows) -> tuple[F32s, Bools]:
        km = grid.distance_km(self.xyz, lead, self.roster.store_xyz, store)
        km[np.isnan(km)] = np.inf
        same_cell = self.roster.store_cell[store] == self.requests.cell[lead]
        return km, same_cell & (km > self.around.disc_km[lead])


def nearest_store(requests: Requests, roster: Roster, policy: Policy) -> I32s:
    """The row of the nearest active store of each lead's brand within the policy's radius, -1 without one.

    Only a lead's own coordinates count. Of stores equally far the one with the lower hash is taken.
    """
    search = Search(
        lat=requests.lat,
        lon=requests.lon,
        xyz=grid.unit(requests.lat, requests.lon),
        brand=requests.brand,
        keep=lambda _, store: roster.store_active.take(store),
        worth=None,
        worth_before=np.arange(roster.square_key.size + 1),
        need=1,
        sparse=np.zeros(len(requests), np.bool_),
        radius_km=policy.radius_km,
    )
    around = near(search, roster)
    # Floats that are not negative compare as their bits do, so one integer holds distance and hash.
    distance = around.km.view(np.uint32).astype(np.uint64) << np.uint64(32)
    key = distance | roster.store_hash.take(around.store)
    best: U64s = np.full(len(requests), np.iinfo(np.uint64).max)
    np.minimum.at(best, around.place, key)
    won = key == best.take(around.place)
    nearest = np.full(len(requests), -1, np.int32)
    nearest[around.place[won]] = around.store[won]
    return nearest


def km_to_guides(requests: Requests, roster: Roster, lead: Rows, guide: Rows) -> F32s:
    """Kilometres from leads to guides' stores, the very floats that `candidates` gives for these pairs.

    Infinite for a lead that nobody can place.
    """
    xyz = grid.unit(*_places(requests, roster))
    km = grid.distance_km(xyz, lead, roster.store_xyz, roster.guide_store.take(guide))
    return np.where(np.isnan(km), np.float32(np.inf), km)


def _places(requests: Requests, roster: Roster) -> tuple[F32s, F32s]:
    """Where each lead stands, in degrees: NaN where nobody knows."""
    if not np.isnan(requests.lat).any():
        return requests.lat, requests.lon
    lat, lon = requests.lat.copy(), requests.lon.copy()
    owned: I64s = true_at(requests.owner_row >= 0)
    owner_store = np.full_like(requests.store_row, -1)
    owner_store[owned] = roster.guide_store[requests.owner_row[owned]]
    for store in (requests.store_row, owner_store):
        blank = true_at(np.isnan(lat) & (store >= 0))
        lat[blank], lon[blank] = roster.store_lat[store[blank]], roster.store_lon[store[blank]]
    return lat, lon

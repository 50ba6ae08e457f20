"""A batch of routing requests as columns."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from scoring.arrays import Bools, F32s, I32s, U8s, U32s
from scoring.layout import ZONE_BITS, ZONES_ALL
from scoring.roster import Roster
from topics.fields import Tier
from topics.leads import Lead
from topics.reservations import Reservation

#: ``Requests.tier`` is an index into this; a lead without a tier has not bought yet as far as anybody knows.
TIERS: tuple[Tier, ...] = get_args(Tier)
_TIER_NUMBERS = {tier: number for number, tier in enumerate(TIERS)}
NO_NEED, UNKNOWN_NEED = -1, -2


@dataclass(slots=True, eq=False)
class Requests:
    """n requests; rows of stores and guides are of the roster they were made for. -1 stands for none.

    ``cell`` and ``owner_row`` come from the member's state and are filled in by the caller.
    """

    lat: F32s  #: degrees, NaN unknown
    lon: F32s
    brand: I32s  #: number in ``roster.brands``
    store_row: I32s  #: the named store
    fixed_store: Bools  #: only the named store will do
    cell: I32s  #: index into ``roster.cells``; without a cell there are no candidates
    owner_row: I32s  #: the guide the member belongs to
    zone_mask: U8s  #: price zones that will do; 1 full, 2 special, 3 either
    need_tags: npt.NDArray[np.int16]  #: [n, up to 16] tags, NO_NEED on the right, UNKNOWN_NEED: nobody has it
    tier: U8s  #: index into TIERS
    stock_named: Bools  #: names stores that hold the goods, known here or not
    stock_lead: I32s  #: flat: the row of a request ...
    stock_store: I32s  #: ... and the row of a store that holds its goods
    member_hash: U32s  #: of kind and id, for ties

    def __len__(self) -> int:
        """How many requests."""
        return self.brand.size


def columns(events: Sequence[Lead | Reservation], roster: Roster) -> Requests:
    """Lay out a batch; ``cell`` and ``owner_row`` are -1 until the caller fills them in."""
    n = len(events)
    place: list[tuple[float | None, float | None]] = [(None, None)] * n
    fixed = np.zeros(n, np.bool_)
    zone = np.full(n, ZONES_ALL, np.uint8)
    stock: list[tuple[int, int]] = []
    stock_named = np.zeros(n, np.bool_)
    ids = [""] * n
    for row, event in enumerate(events):
        if isinstance(event, Reservation):
            fixed[row] = True
            ids[row] = f"reservation/{event.reservation_id}"
            continue
        ids[row] = f"lead/{event.lead_id}"
        place[row] = (event.lat, event.lon)
        if event.price_zone is not None:
            zone[row] = ZONE_BITS[event.price_zone]
        if event.in_stock:
            stock_named[row] = True
            held = {roster.store_row(event.brand, store_id) for store_id in event.in_stock}
            stock.extend((row, store) for store in held if store >= 0)
    lat, lon = np.array(place, np.float32).reshape(-1, 2).T.copy()
    stock_columns = np.array(stock, np.int32).reshape(-1, 2).T.copy()
    named = [-1 if e.store_id is None else roster.store_row(e.brand, e.store_id) for e in events]
    return Requests(
        lat=lat,
        lon=lon,
        brand=np.array([roster.brands.get(e.brand, -1) for e in events], np.int32),
        store_row=np.array(named, np.int32),
        fixed_store=fixed,
        cell=np.full(n, -1, np.int32),
        owner_row=np.full(n, -1, np.int32),
        zone_mask=zone,
        need_tags=_need_tags(events, roster),
        tier=np.array([_TIER_NUMBERS[e.tier or "prospect"] for e in events], np.uint8),
        stock_named=stock_named,
        stock_lead=stock_columns[0],
        stock_store=stock_columns[1],
        member_hash=np.array([zlib.crc32(name.encode()) for name in ids], np.uint32),
    )


def _need_tags(events: Sequence[Lead | Reservation], roster: Roster) -> npt.NDArray[np.int16]:
    width = max((len(event.needs) for event in events), default=0)
    tags = np.full((len(events), width), NO_NEED, np.int16)
    for row, event in enumerate(events):
        if event.needs:
            tags[row, : len(event.needs)] = [roster.tags.get(need, UNKNOWN_NEED) for need in event.needs]
    return tags

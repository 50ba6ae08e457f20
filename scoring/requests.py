"""A batch of routing requests as columns."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import numpy.typing as npt

from scoring.arrays import Bools, F32s, I32s, I64s, Pairs, U8s, U32s
from scoring.layout import ZONE_BITS, ZONES_ALL
from scoring.roster import Roster
from topics.fields import Tier
from topics.leads import Lead
from topics.reservations import Reservation

#: ``Requests.tier`` is an index into this; a lead without a tier has not bought yet as far as anybody knows.
TIERS: tuple[Tier, ...] = get_args(Tier)
_TIER_NUMBERS = {tier: number for number, tier in enumerate(TIERS)}
NO_NEED, UNKNOWN_NEED = -1, -2
#: No quota, no last contact, no last act.
NONE = -1


@dataclass(slots=True, eq=False, kw_only=True)
class Requests:
    """n requests; rows of stores and guides are of the roster they were made for. -1 stands for none.

    What comes from elsewhere than the event, from ``cell`` on, is filled in by the caller; left alone it
    means that nothing is known, and changes no decision.
    """

    lat: F32s  #: degrees, NaN unknown
    lon: F32s
    brand: I32s  #: number in ``roster.brands``
    store_row: I32s  #: the named store
    fixed_store: Bools  #: only the named store will do
    only_owner: Bools  #: only the responsible guide will do
    zone_mask: U8s  #: price zones that will do; 1 full, 2 special, 3 either
    need_tags: npt.NDArray[np.int16]  #: [n, up to 16] tags, NO_NEED on the right, UNKNOWN_NEED: nobody has it
    tier: U8s  #: index into TIERS
    value_fen: I64s  #: expected value, 0 unknown
    arrival_ms: I64s  #: when the lead came in, epoch ms: who waits longer comes first
    stock_named: Bools  #: names stores that hold the goods, known here or not
    stock: Pairs  #: requests and stores that hold their goods
    member_hash: U32s  #: of kind and id, for ties

    cell: I32s  #: index into ``roster.cells``; without a cell there are no candidates
    owner_row: I32s  #: the guide who is responsible for the member
    owner_acted_ms: I64s  #: when that guide last did something for the member, epoch ms; NONE: just now
    last_row: I32s  #: the guide who served the member last
    last_contact_ms: I64s  #: the member's last interaction, epoch ms
    partner_left: I32s  #: how many leads its partner's quota still allows; NONE without a quota
    kept: Bools  #: kept for headquarters: nobody of another kind of store will do
    waits: Bools  #: has waited in a queue: nobody of that queue who came later goes first
    declined: Pairs = field(default_factory=Pairs)  #: requests and guides who declined them before
    no_slot: Pairs = field(default_factory=Pairs)  #: requests and stores without a free slot for them
    visit_ms: int = 0  #: when their visits begin, epoch ms, one time for all; 0 without a visit

    def __len__(self) -> int:
        """How many requests."""
        return self.brand.size

    @property
    def need_count(self) -> I32s:
        """How many needs each has."""
        count: I32s = (self.need_tags != NO_NEED).sum(axis=1, dtype=np.int32)
        return count


def tier_numbers(tiers: Iterable[Tier]) -> U8s:
    """Tiers as a column."""
    return np.array([_TIER_NUMBERS[tier] for tier in tiers], np.uint8)


def columns(events: Sequence[Lead | Reservation], roster: Roster) -> Requests:
    """Lay out a batch, without what the caller has to fill in."""
    n = len(events)
    place: list[tuple[float | None, float | None]] = [(None, None)] * n
    fixed = np.zeros(n, np.bool_)
    only_owner = np.zeros(n, np.bool_)
    zone = np.full(n, ZONES_ALL, np.uint8)
    stock: list[tuple[int, str, str]] = []
    ids = [""] * n
    for row, event in enumerate(events):
        if isinstance(event, Reservation):
            fixed[row] = True
            ids[row] = f"reservation/{event.reservation_id}"
            continue
        ids[row] = f"lead/{event.lead_id}"
        place[row] = (event.lat, event.lon)
        only_owner[row] = event.only_owner
        if event.price_zone is not None:
            zone[row] = ZONE_BITS[event.price_zone]
        if event.in_stock:
            stock.extend((row, event.brand, store_id) for store_id in {*event.in_stock})
    lat, lon = np.array(place, np.float32).reshape(-1, 2).T.copy()
    stock_named = np.zeros(n, np.bool_)
    stock_named[[row for row, _, _ in stock]] = True
    return Requests(
        lat=lat,
        lon=lon,
        brand=np.array([roster.brands.get(e.brand, -1) for e in events], np.int32),
        store_row=_named_stores(events, roster),
        fixed_store=fixed,
        only_owner=only_owner,
        zone_mask=zone,
        need_tags=_need_tags(events, roster),
        tier=tier_numbers(event.tier or "prospect" for event in events),
        value_fen=np.array([e.value_fen or 0 for e in events], np.int64),
        arrival_ms=np.array([e.occurred_at_ms for e in events], np.int64),
        stock_named=stock_named,
        stock=_stock(stock, roster),
        member_hash=np.array([zlib.crc32(name.encode()) for name in ids], np.uint32),
        cell=np.full(n, -1, np.int32),
        owner_row=np.full(n, -1, np.int32),
        owner_acted_ms=np.full(n, NONE, np.int64),
        last_row=np.full(n, -1, np.int32),
        last_contact_ms=np.full(n, NONE, np.int64),
        partner_left=np.full(n, NONE, np.int32),
        kept=np.zeros(n, np.bool_),
        waits=np.zeros(n, np.bool_),
    )


def _named_stores(events: Sequence[Lead | Reservation], roster: Roster) -> I32s:
    named = [row for row, event in enumerate(events) if event.store_id is not None]
    rows = np.full(len(events), -1, np.int32)
    ids = [events[row].store_id or "" for row in named]
    rows[named] = roster.store_ids.rows([events[row].brand for row in named], ids)
    return rows


def _stock(stock: Sequence[tuple[int, str, str]], roster: Roster) -> Pairs:
    rows = roster.store_ids.rows([brand for _, brand, _ in stock], [store_id for *_, store_id in stock])
    request = np.array([row for row, _, _ in stock], np.int32)
    return Pairs(request[rows >= 0], rows[rows >= 0])


def _need_tags(events: Sequence[Lead | Reservation], roster: Roster) -> npt.NDArray[np.int16]:
    width = max((len(event.needs) for event in events), default=0)
    tags = np.full((len(events), width), NO_NEED, np.int16)
    for row, event in enumerate(events):
        if event.needs:
            tags[row, : len(event.needs)] = [roster.tags.get(need, UNKNOWN_NEED) for need in event.needs]
    return tags

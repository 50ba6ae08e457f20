"""From the events of stores and guides to columns: the thin layer above `build` and `update`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, get_args
from urllib.parse import quote

import numpy as np

from scoring import grid
from scoring.arrays import I16s, I32s, U8s
from scoring.fairness import step_of
from scoring.names import Bytes
from scoring.opening import WEEKDAYS, Zones, closed_days, week
from scoring.roster import BOOK_UNLIMITED, LEVEL_DEFAULT, PREFERS_BIT, Roster
from topics.fields import PriceZone
from topics.guides import Guide
from topics.stores import Store, StoreKind

ZONE_BITS: dict[PriceZone, int] = {"full": 1, "special": 2}
ZONES_ALL = 3
KINDS: tuple[StoreKind, ...] = get_args(StoreKind)
HQ = KINDS.index("hq")
#: The matrix of skills is dense, so its columns are limited: to the skills that most guides have.
TAGS_MAX = 256
_STORE_ZONES: dict[StoreKind, int] = {"full_price": 1, "outlet": 2}
Spans = Sequence[Sequence[tuple[int, int]]]


@lru_cache(maxsize=65_536)
def cell_name(brand: str, market: str | None) -> str:
    """``brand/market``, the market percent-encoded since it is free text; ``brand/-`` without one."""
    return f"{brand}/{'-' if market is None else quote(market, safe='')}"


@dataclass(slots=True, eq=False)
class StoreTable:
    """n stores, decoded; ``columns`` go by their names in the roster."""

    ids: Bytes
    brands: list[str]
    columns: dict[str, Any]
    closed: Spans = ()  #: days since 1970, for each store or for none


@dataclass(slots=True, eq=False)
class GuideTable:
    """n guides, decoded; ``columns`` go by their names in the roster, all but the store."""

    ids: Bytes
    brands: list[str]
    store_ids: Bytes
    columns: dict[str, Any]
    leave: Spans = ()  #: epoch ms, for each guide or for none
    shifts: Spans = ()
    #: Flat: the number of a guide, a column of `Roster.guide_skills`, the bits that go there.
    skill_guide: I32s = field(default_factory=lambda: np.empty(0, np.int32))
    skill_tag: I16s = field(default_factory=lambda: np.empty(0, np.int16))
    skill_bits: U8s = field(default_factory=lambda: np.empty(0, np.uint8))


def store_table(stores: Sequence[Store], roster: Roster, zones: Zones) -> StoreTable:
    """Columns of stores; brands, cells and time zones that are new to the roster get their numbers."""
    for name in {store.timezone for store in stores} - roster.zone_names.keys():
        roster.zone_names[name] = len(roster.zones)
        roster.zones.append(zones(name))
    lat, lon = np.array([(s.lat, s.lon) for s in stores], np.float32).reshape(-1, 2).T.copy()
    hours = np.array([week(store) for store in stores], np.int16).reshape(-1, len(WEEKDAYS), 2)
    brand = [roster.brands.setdefault(store.brand, len(roster.brands)) for store in stores]
    return StoreTable(
        ids=np.array([store.store_id.encode() for store in stores], "S"),
        brands=[store.brand for store in stores],
        columns=placed(np.array(brand, np.int32), lat, lon)
        | {
            "store_cell": np.array([_cell(roster, store) for store in stores], np.int32),
            "store_zones": np.array([_STORE_ZONES.get(s.kind, ZONES_ALL) for s in stores], np.uint8),
            "store_kind": np.array([KINDS.index(store.kind) for store in stores], np.uint8),
            "store_active": np.array([store.active for store in stores], np.bool_),
            "store_timezone": np.array([roster.zone_names[store.timezone] for store in stores], np.int16),
            "store_opens": hours[:, :, 0],
            "store_closes": hours[:, :, 1],
        },
        closed=[closed_days(store) for store in stores],
    )


def placed(brand: I32s, lat: Any, lon: Any) -> dict[str, Any]:  # noqa: ANN401 - float32 columns
    """The columns that say where stores are, from degrees."""
    return {
        "store_brand": brand,
        "store_lat": lat,
        "store_lon": lon,
        "store_point": grid.unit(lat, lon).T,
        "store_key": brand * np.int64(grid.SQUARES) + grid.squares(lat, lon),
    }


def guide_table(guides: Sequence[Guide], offline: Sequence[bool], roster: Roster) -> GuideTable:
    """Columns of guides; skills that are new to the roster get their columns while there is room."""
    _know_tags(guides, roster)
    skills = [
        (number, column, bits)
        for number, guide in enumerate(guides)
        for column, bits in _skills(guide, roster)
    ]
    flat = np.array(skills, np.int32).reshape(-1, 3)
    capacity = [roster.capacity_default if g.capacity is None else g.capacity for g in guides]
    book_max = [BOOK_UNLIMITED if g.book_max is None else min(g.book_max, BOOK_UNLIMITED) for g in guides]
    sells = [sum({ZONE_BITS[zone] for zone in g.price_zones}) or ZONES_ALL for g in guides]
    return GuideTable(
        ids=np.array([guide.guide_id.encode() for guide in guides], "S"),
        brands=[guide.brand for guide in guides],
        store_ids=np.array([guide.store_id.encode() for guide in guides], "S"),
        columns={
            "guide_works": np.array([guide.active for guide in guides], np.bool_),
            "guide_present": ~np.array(offline, np.bool_),
            "guide_capacity": np.array(capacity, np.int32),
            "guide_book_max": np.array(book_max, np.int32),
            "guide_level": np.array([g.level or LEVEL_DEFAULT for g in guides], np.uint8),
            "guide_sells": np.array(sells, np.uint8),
            "guide_step": np.array([step_of(guide.weight) for guide in guides], np.int32),
        },
        leave=[[(span.from_ms, span.to_ms) for span in guide.leave] for guide in guides],
        shifts=[[(span.from_ms, span.to_ms) for span in guide.shifts] for guide in guides],
        skill_guide=flat[:, 0],
        skill_tag=flat[:, 1].astype(np.int16),
        skill_bits=flat[:, 2].astype(np.uint8),
    )


def _cell(roster: Roster, store: Store) -> int:
    name = cell_name(store.brand, store.market)
    cell = roster.cell_rows.get(name)
    if cell is None:
        cell = roster.cell_rows[name] = len(roster.cells)
        roster.cells.append(name)
        # the last one is of no cell and stays 0
        if cell + 1 >= roster.cell_guides.size:
            for column in ("cell_guides", "cell_clock"):
                setattr(
                    roster, column, np.concatenate((getattr(roster, column), np.zeros(cell + 8, np.int64)))
                )
    return cell


def _know_tags(guides: Sequence[Guide], roster: Roster) -> None:
    held = Counter(
        tag for guide in guides for tag in {*guide.skills, *guide.prefers} if tag not in roster.tags
    )
    room = max(0, TAGS_MAX - len(roster.tags))
    for tag in sorted(held, key=lambda tag: (-held[tag], tag))[:room]:
        roster.tags[tag] = len(roster.tags)


def _skills(guide: Guide, roster: Roster) -> list[tuple[int, int]]:
    bits: dict[str, int] = dict(guide.skills)
    for tag in guide.prefers:
        bits[tag] = bits.get(tag, 0) | PREFERS_BIT
    return [(roster.tags[tag], value) for tag, value in bits.items() if tag in roster.tags]

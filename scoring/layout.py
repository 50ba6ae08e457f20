"""From the events of stores and guides to the columns of a roster."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from scoring import grid
from scoring.arrays import U32s, starts
from topics.fields import PriceZone
from topics.guides import Guide, Presence
from topics.stores import Store, StoreKind

ZONE_BITS: dict[PriceZone, int] = {"full": 1, "special": 2}
ZONES_ALL = 3
#: The matrix of skills is dense, so its columns are limited: to the skills that most guides have.
TAGS_MAX = 256
_STORE_ZONES: dict[StoreKind, int] = {"full_price": 1, "outlet": 2}


@lru_cache(maxsize=65_536)
def cell_name(brand: str, market: str | None) -> str:
    """``brand/market``, the market percent-encoded since it is free text; ``brand/-`` without one."""
    return f"{brand}/{'-' if market is None else quote(market, safe='')}"


def store_columns(stores: Sequence[Store]) -> dict[str, Any]:
    """What the roster holds about stores, by name."""
    brands: dict[str, int] = {}
    brand = np.array([brands.setdefault(s.brand, len(brands)) for s in stores], np.int32)
    place = np.array([(s.lat, s.lon) for s in stores], np.float32).reshape(-1, 2)
    key = brand * np.int64(grid.SQUARES) + grid.squares(place[:, 0], place[:, 1])
    order = np.argsort(key, kind="stable")
    lat, lon = place[order].T.copy()
    stores = [stores[i] for i in order.tolist()]
    cells: dict[str, int] = {}
    cell = [cells.setdefault(cell_name(s.brand, s.market), len(cells)) for s in stores]
    rows: dict[str, dict[str, int]] = {name: {} for name in brands}
    for row, store in enumerate(stores):
        rows[store.brand][store.store_id] = row
    return {
        "brands": brands,
        "cells": list(cells),
        "store_ids": [s.store_id for s in stores],
        "store_key": key[order],
        "store_lat": lat,
        "store_lon": lon,
        "store_xyz": grid.unit(lat, lon),
        "store_brand": brand[order],
        "store_cell": np.array(cell, np.int32),
        "store_zones": np.array([_STORE_ZONES.get(s.kind, ZONES_ALL) for s in stores], np.uint8),
        "store_active": np.array([s.active for s in stores], np.bool_),
        "store_hash": _hashes([f"{s.brand}/{s.store_id}" for s in stores]),
        "cell_rows": cells,
        "store_rows": rows,
    }


def guide_columns(
    guides: Sequence[Guide], presence: Sequence[Presence], placed: dict[str, Any], capacity_default: int
) -> dict[str, Any]:
    """What the roster holds about guides, by name, given the columns of stores."""
    stores: dict[str, dict[str, int]] = placed["store_rows"]
    store = np.array([stores.get(g.brand, {}).get(g.store_id, -1) for g in guides], np.int32)
    order = np.argsort(store, kind="stable")
    order = order[store[order] >= 0]
    store = store[order]
    guides = [guides[i] for i in order.tolist()]
    rows: dict[str, dict[str, int]] = {name: {} for name in stores}
    for row, guide in enumerate(guides):
        rows[guide.brand][guide.guide_id] = row
    offline = {(p.brand, p.guide_id) for p in presence if p.status == "offline"}
    active = np.array([g.active for g in guides], np.bool_)
    capacity = [capacity_default if g.capacity is None else g.capacity for g in guides]
    zones = np.array([sum({ZONE_BITS[z] for z in g.price_zones}) or ZONES_ALL for g in guides], np.uint8)
    leave = [(row, span.from_ms, span.to_ms) for row, g in enumerate(guides) for span in g.leave]
    leave_columns = np.array(leave, np.int64).reshape(-1, 3).T.copy()
    tags, skills = _skills(guides)
    cell = placed["store_cell"][store]
    return {
        "cell_guides": np.bincount(cell, minlength=len(placed["cells"]) + 1),
        "tags": tags,
        "guide_ids": [g.guide_id for g in guides],
        "guide_store": store,
        "guide_active": active & placed["store_active"][store],
        "guide_present": np.array([(g.brand, g.guide_id) not in offline for g in guides], np.bool_),
        "guide_capacity": np.array(capacity, np.int32),
        "guide_load": np.zeros(len(guides), np.int32),
        "guide_zones": zones & placed["store_zones"][store],
        "guide_skills": skills,
        "guide_hash": _hashes([f"{g.brand}/{g.guide_id}" for g in guides]),
        "guide_rows": rows,
        "store_guides_start": starts(store, len(placed["store_ids"])),
        "leave_guide": leave_columns[0].astype(np.int32),
        "leave_from_ms": leave_columns[1],
        "leave_to_ms": leave_columns[2],
    }


def _skills(guides: Sequence[Guide]) -> tuple[dict[str, int], npt.NDArray[np.int8]]:
    held = Counter(tag for guide in guides for tag in guide.skills)
    known = sorted(held, key=lambda tag: (-held[tag], tag))[:TAGS_MAX]
    tags = {tag: column for column, tag in enumerate(known)}
    levels = np.zeros((len(guides), len(tags) + 1), np.int8)
    for row, guide in enumerate(guides):
        for tag, level in guide.skills.items():
            if tag in tags:
                levels[row, tags[tag]] = level
    return tags, levels


def _hashes(names: Iterable[str]) -> U32s:
    return np.array([zlib.crc32(name.encode()) for name in names], np.uint32)

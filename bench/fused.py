"""The physical limit of one core: retrieval, filters, features, shortlist in one compiled loop (numba).

It does for the default policy what `scoring.rank` does by columns, lead by lead and guide by guide. It
gives up what makes scoring what it is: lists that anybody can add to, counts per filter, owners from
elsewhere, ties.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from scoring import features, grid
from scoring.features import FEATURES
from scoring.policy import Policy
from scoring.requests import Requests
from scoring.roster import BOOK_UNLIMITED, Roster
from scoring.score import weights
from scoring.view import View

_WEIGHT = [each.name for each in FEATURES]
_MARGIN = 1.0001


@numba.njit
def _rank(lead, place, store, guide, skills, limits, weight, out_guide, out_score):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, C901, PLR0912, PLR0913, PLR0915, PLR0917 - one loop on purpose
    lat, lon, named, owner, zone, need, value, urgent = lead
    columns, offset, step_deg, key, row_of = place
    point, count, first, opened = store
    works, capacity, load, book, book_max, level, zones, turn, quick, closes = guide
    radius_km, half_km, earth_km, most, zone_fit = limits
    n_rows = columns.size
    for i in range(lat.size):
        filled = 0
        phi, lam = np.radians(lat[i]), np.radians(lon[i])
        flat = np.cos(phi)
        x, y, z = flat * np.cos(lam), flat * np.sin(lam), np.sin(phi)
        angle = radius_km / earth_km * _MARGIN
        high = np.degrees(angle)
        top = int((lat[i] + high + 90) / step_deg)
        for row in range(int((lat[i] - high + 90) / step_deg), min(top, n_rows - 1) + 1):
            edge = min(max(lat[i], row * step_deg - 90), (row + 1) * step_deg - 90)
            up = np.radians(edge)
            cosine = (np.cos(angle) - np.sin(up) * z) / (np.cos(up) * flat)
            if cosine >= 1:
                continue
            half = np.degrees(np.arccos(cosine))
            a = offset[row] + int((lon[i] - half + 180) * columns[row] / 360)
            b = offset[row] + int((lon[i] + half + 180) * columns[row] / 360)
            at = np.searchsorted(key, a)
            while at < key.size and key[at] <= b:
                s = row_of[at]
                at += 1
                km = earth_km * np.sqrt(
                    (point[s, 0] - x) ** 2 + (point[s, 1] - y) ** 2 + (point[s, 2] - z) ** 2
                )
                if km > radius_km or not opened[s]:
                    continue
                base = weight[5] * half_km / (half_km + km) + weight[6] * (named[i] == s) + weight[7]
                for g in range(first[s], first[s] + count[s]):
                    if not works[g] or load[g] >= capacity[g] or not zone[i] & zones[g]:
                        continue
                    mine = owner[i] == g
                    if book[g] >= book_max[g] and not mine:
                        continue
                    known, likes = 1.0, 0.0
                    if need[i] >= 0:
                        bits = skills[g, need[i]]
                        if not bits & 7:
                            continue
                        known, likes = (bits & 7) / 5, float(bits >> 3)
                    room = float(capacity[g])
                    score = base + weight[0] * (room - load[g]) / room
                    free = 1.0
                    if book_max[g] != BOOK_UNLIMITED:
                        free = (book_max[g] - book[g]) / book_max[g]
                    score += (
                        weight[1] * free + weight[2] * quick[g] + weight[3] * closes[g] + weight[4] * turn[g]
                    )
                    score += weight[8] * mine + weight[10] * known + weight[11] * likes
                    score += weight[12] * (1 - value[i] * (1 - (level[g] - 1) / 9))
                    score += weight[13] * (1 - urgent[i] * (1 - quick[g]))
                    score += weight[14] * zone_fit[zone[i], zones[g]]
                    if filled == most and score <= out_score[i, most - 1]:
                        continue
                    spot = min(filled, most - 1)
                    while spot > 0 and out_score[i, spot - 1] < score:
                        out_score[i, spot], out_guide[i, spot] = (
                            out_score[i, spot - 1],
                            out_guide[i, spot - 1],
                        )
                        spot -= 1
                    out_score[i, spot], out_guide[i, spot] = score, g
                    filled = min(filled + 1, most)


class Fused:
    """The loop with its columns at hand; what hangs on the time alone is worked out before, unmeasured."""

    def __init__(self, requests: Requests, roster: Roster, policy: Policy, now_ms: int) -> None:
        none = np.empty(0, np.int32)
        rows = np.arange(len(roster.guide_ids))
        view = View(requests, roster, policy, now_ms, none, rows, np.empty(0, np.float32))
        fen = requests.value_fen.astype(np.float64)
        window_ms = policy.window_h * 3_600_000
        since = now_ms - requests.last_contact_ms
        need = requests.need_tags[:, 0] if requests.need_tags.size else np.full(len(requests), -1, np.int16)
        works = roster.guide_active[rows] & roster.guide_present[rows] & ~roster.on_leave(now_ms, rows)
        self._args: tuple[Any, ...] = (
            (
                requests.lat.astype(np.float64),
                requests.lon.astype(np.float64),
                requests.store_row,
                requests.owner_row,
                requests.zone_mask,
                need,
                fen / (fen + policy.value_half_fen),
                np.where((since >= 0) & (since < window_ms), since / window_ms, 0),
            ),
            (grid._COLUMNS, grid._OFFSET, grid._STEP_DEG, roster.square_key, roster.square_store),  # noqa: SLF001 - the same grid
            (
                np.ascontiguousarray(roster.store_point),
                roster.store_guides_count,
                roster.store_guides_start,
                roster.open_stores(now_ms, np.arange(len(roster.store_ids))),
            ),
            (
                works & roster.on_shift(now_ms, rows),
                roster.guide_capacity,
                roster.guide_load,
                roster.guide_book,
                roster.guide_book_max,
                roster.guide_level,
                roster.guide_zones,
                features.turn(view),
                features.responsiveness(view),
                features.conversion(view),
            ),
            roster.guide_skills,
            (
                policy.radius_km,
                policy.distance_half_km,
                grid.EARTH_KM,
                policy.shortlist_max,
                features._ZONE_FIT,  # noqa: SLF001 - the same table
            ),
            weights(policy).astype(np.float64),
        )
        shape = (len(requests), policy.shortlist_max)
        self.guide, self.score = np.full(shape, -1, np.int32), np.zeros(shape)

    def __call__(self) -> None:
        """Rank once more."""
        _rank(*self._args, self.guide, self.score)

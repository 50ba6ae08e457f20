"""A simulated day: what is lost by matching leads as they come instead of all at once, with hindsight."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench import matching
from bench.figures import Figure
from scoring.auction import Table, auction
from scoring.policy import Policy

LEADS = 3_000
SLOTS_PER_LEAD = 1.1
#: Leads a second at the middle of the day, of which the rate is a half sine.
PEAK_PER_S = 400.0
WAITS_MS = (5, 50, 250, 1_000)


def regrets(seed: int) -> Iterator[Figure]:
    """The share of the best sum of scores that is lost, by how long a batch waits; no place is freed."""
    rng = np.random.default_rng(seed)
    table, room = matching.instance(LEADS, SLOTS_PER_LEAD, rng)
    day_s = LEADS / PEAK_PER_S * np.pi / 2
    at_ms = np.sort(np.arccos(1 - 2 * rng.random(LEADS)) / np.pi * day_s * 1e3)
    best = matching.optimum(matching.dense(table, room))
    for wait_ms in WAITS_MS:
        got, batches, left = 0.0, 0, room.copy()
        for batch in np.split(np.arange(LEADS), np.flatnonzero(np.diff(at_ms // wait_ms)) + 1):
            part = Table(table.score[batch], table.guide[batch], table.tie[batch])
            column = auction(part, left, Policy().match_rounds_max)
            held = np.flatnonzero(column >= 0)
            left = left - np.bincount(part.guide[held, column[held]], minlength=left.size).astype(np.int32)
            got, batches = got + matching.total(part, column), batches + 1
        params = {
            "batch_wait_ms": wait_ms,
            "leads": LEADS,
            "slots_per_lead": SLOTS_PER_LEAD,
            "peak_per_s": PEAK_PER_S,
            "batches": batches,
            "seed": seed,
        }
        yield Figure("regret", 1 - got / best, "share", params)

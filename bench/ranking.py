"""How fast the ranking core is: ``python -m bench.ranking [--seed N]``.

Stores are spread evenly over one city, so that a disc of the policy's radius holds the asked number of
guides on average; every lead's disc is widened once on the way. Prints one JSON line per figure; times are
CPU time of this process, medians of several runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from scoring.build import build
from scoring.explain import explain, reasons
from scoring.policy import Policy
from scoring.rank import rank
from scoring.requests import Requests, columns
from scoring.retrieve import candidates, nearest_store
from scoring.roster import Roster
from topics.guides import Guide
from topics.leads import Lead
from topics.stores import Store

BATCH = 512
CANDIDATES = (10, 50, 200, 500)
RUNS = 30
RADIUS_KM = 4.0
CITY_KM = 80.0
GUIDES_PER_STORE = 3
TAGS = ("suits", "shoes", "bags", "watches")
KM_PER_DEG = 111.195
NOW_MS = 1_700_000_000_000


def city(candidates_mean: int, rng: np.random.Generator) -> Roster:
    """A city of ``CITY_KM`` squared whose discs of ``RADIUS_KM`` hold about so many guides."""
    per_km2 = candidates_mean / (np.pi * RADIUS_KM**2) / GUIDES_PER_STORE
    n = int(per_km2 * CITY_KM**2)
    place = rng.uniform(-CITY_KM / 2, CITY_KM / 2, (n, 2)) / KM_PER_DEG
    stores = [
        Store(
            store_id=f"s{i}",
            brand="b",
            version=1,
            lat=lat,
            lon=lon,
            kind="full_price",
            active=True,
            market="c",
        )
        for i, (lat, lon) in enumerate(place.tolist())
    ]
    levels = rng.integers(1, 6, (n * GUIDES_PER_STORE, 2)).tolist()
    tags = rng.integers(0, len(TAGS), (n * GUIDES_PER_STORE, 2)).tolist()
    guides = [
        Guide(
            guide_id=f"g{i}",
            brand="b",
            version=1,
            store_id=f"s{i // GUIDES_PER_STORE}",
            active=True,
            skills={TAGS[tag]: level for tag, level in zip(tags[i], levels[i], strict=True)},
        )
        for i in range(n * GUIDES_PER_STORE)
    ]
    roster = build(stores, guides, [], capacity_default=20)
    roster.set_load(np.arange(len(guides)), rng.integers(0, 22, len(guides)))
    return roster


def leads(n: int, roster: Roster, rng: np.random.Generator) -> list[Lead]:
    """Leads well inside of the city, every other one with a need, every third naming a store."""
    inner_km = CITY_KM / 2 - RADIUS_KM
    place = (rng.uniform(-inner_km, inner_km, (n, 2)) / KM_PER_DEG).tolist()
    named = rng.integers(0, len(roster.store_ids), n).tolist()
    return [
        Lead(
            lead_id=f"l{i}",
            member_id=f"m{i}",
            brand="b",
            occurred_at_ms=NOW_MS,
            lat=lat,
            lon=lon,
            needs=TAGS[:1] if i % 2 else (),
            price_zone="full",
            store_id=roster.store_ids[named[i]] if i % 3 == 0 else None,
        )
        for i, (lat, lon) in enumerate(place)
    ]


def settle(requests: Requests, rng: np.random.Generator, roster: Roster) -> None:
    """Give every lead the city's cell, and every fourth an owner."""
    requests.cell[:] = 0
    requests.owner_row[::4] = rng.integers(0, len(roster.guide_ids), requests.owner_row[::4].size)


def cpu_us(work: Callable[[], object]) -> float:
    """Median CPU time of one call, after two for warming up."""
    work(), work()
    times = []
    for _ in range(RUNS):
        begin = time.process_time_ns()
        work()
        times.append(time.process_time_ns() - begin)
    return statistics.median(times) / 1000


def show(metric: str, value: float, unit: str, **params: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print one figure."""
    line = {"bench": "ranking", "metric": metric, "value": round(value, 3), "unit": unit, "params": params}
    print(json.dumps(line))  # noqa: T201 - the report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    policy = Policy(radius_km=RADIUS_KM, candidates_min=10_000)
    for wanted in CANDIDATES:
        rng = np.random.default_rng(seed)
        roster = city(wanted, rng)
        batch = leads(BATCH, roster, rng)
        requests = columns(batch, roster)
        settle(requests, rng, roster)
        ranking = rank(requests, roster, policy, NOW_MS)
        mean = float(ranking.seen.mean())
        params = {
            "batch": BATCH,
            "candidates": wanted,
            "candidates_seen": round(mean, 1),
            "guides": len(roster.guide_ids),
            "seed": seed,
        }
        us = cpu_us(lambda: rank(requests, roster, policy, NOW_MS))  # noqa: B023 - called in this turn
        show("leads_per_s", BATCH / us * 1e6, "1/s", **params)
        show("candidate_scores_per_s", BATCH * mean / us * 1e6, "1/s", **params)
        show("rank_us_per_lead", us / BATCH, "us", **params)
        stages: dict[str, Callable[[], object]] = {
            "columns": lambda: columns(batch, roster),  # noqa: B023
            "nearest_store": lambda: nearest_store(requests, roster, policy),  # noqa: B023
            "candidates": lambda: candidates(requests, roster, policy),  # noqa: B023
            "explain": lambda: explain(reasons(ranking, requests, roster, policy, NOW_MS), 3),  # noqa: B023
        }
        for name, work in stages.items():
            show(f"{name}_us_per_lead", cpu_us(work) / BATCH, "us", **params)


if __name__ == "__main__":
    main()

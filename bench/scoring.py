"""How fast and how good the ranking core is: ``make bench-scoring ARGS="--seed N --quick"``.

Times are CPU time of this one thread, medians of several runs. All figures of a run stand in one file, one
JSON line each, with a table on the screen and a plot beside it.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import matching, nation, peers, plot
from bench.day import regrets
from bench.figures import Figure, append
from bench.fused import Fused
from scoring.auction import auction, in_turn
from scoring.build import assemble
from scoring.explain import reasons
from scoring.layout import GuideTable, guide_table
from scoring.match import match
from scoring.policy import Policy
from scoring.rank import rank
from scoring.requests import Requests
from scoring.retrieve import nearest_store, runs
from scoring.roster import Roster
from scoring.update import put_guides
from topics.guides import Guide

RESULTS = Path(__file__).parent / "results"
RADIUS_KM, CITY_KM = 4.0, 60.0
CALLS_MIN = 3
#: Above so many candidates half the city will do.
MANY = 1_000
BATCH = 512
CANDIDATES = (10, 50, 200, 500, 2_000)
BATCHES = (1, 16, 64, 256, 1_024, 4_096)
STORES = (5_000, 50_000, 500_000)
NOW_MS = nation.NOW_MS


def cpu_s(work: Callable[[], object], least_s: float = 0.3, most: int = 60) -> float:
    """Median CPU time of one call: as many as take ``least_s``, three at least, after one to warm up."""
    work()
    times: list[float] = []
    while len(times) < CALLS_MIN or (sum(times) < least_s and len(times) < most):
        begin = time.thread_time_ns()
        work()
        times.append((time.thread_time_ns() - begin) / 1e9)
    return statistics.median(times)


def in_city(candidates: int, leads: int, seed: int) -> tuple[Requests, Roster, Policy]:
    """Leads of a city whose discs of the policy's radius hold so many guides; all go to the radius."""
    rng = np.random.default_rng(seed)
    size_km = CITY_KM if candidates < MANY else CITY_KM / 2
    roster = nation.city(candidates, RADIUS_KM, size_km, rng)
    inner_km = size_km / 2 - RADIUS_KM
    place = rng.uniform(-inner_km, inner_km, (2, leads)) / nation.KM_PER_DEG
    requests = nation.leads(leads, place, roster, rng)
    return requests, roster, Policy(radius_km=RADIUS_KM, candidates_min=10_000)


def speed(requests: Requests, roster: Roster, policy: Policy, params: dict[str, Any]) -> Iterator[Figure]:
    """Leads and candidates ranked in a second, and what the steps beside the ranking cost."""
    ranking = rank(requests, roster, policy, NOW_MS)
    n, seen = len(requests), float(ranking.seen.mean())
    params |= {"batch": n, "seen": round(seen, 1), "guides": roster.guide_count, "stores": roster.store_count}
    took_s = cpu_s(lambda: rank(requests, roster, policy, NOW_MS))
    yield Figure("leads_per_s", n / took_s, "1/s", params)
    yield Figure("candidate_scores_per_s", n * seen / took_s, "1/s", params)
    steps: dict[str, Callable[[], object]] = {
        "retrieve": lambda: runs(requests, roster, policy),
        "nearest_store": lambda: nearest_store(requests, roster, policy),
        "match": lambda: match(ranking, requests, roster, policy, NOW_MS),
        "reasons": lambda: reasons(ranking, requests, roster, policy, NOW_MS),
    }
    yield Figure("rank_us_per_lead", took_s / n * 1e6, "us", params)
    for name, work in steps.items():
        yield Figure(f"{name}_us_per_lead", cpu_s(work) / n * 1e6, "us", params)


def ranking(seed: int) -> Iterator[Figure]:
    """By candidates for each lead and by size of the batch."""
    for candidates in CANDIDATES:
        params = {"by": "candidates", "candidates": candidates, "seed": seed}
        yield from speed(*in_city(candidates, BATCH, seed), params)
    for batch in BATCHES:
        params = {"by": "batch", "candidates": 50, "seed": seed}
        yield from speed(*in_city(50, batch, seed), params)


def beside_peers(seed: int) -> Iterator[Figure]:
    """The same queries, in this run, to others."""
    for candidates in (50, 500):
        requests, roster, policy = in_city(candidates, BATCH, seed)
        params = {"candidates": candidates, "batch": BATCH, "seed": seed}
        fused = Fused(requests, roster, policy, NOW_MS)
        fused()
        ours = rank(requests, roster, policy, NOW_MS)
        # it knows only who is near: leads with an owner or a named store may go elsewhere
        plain = np.flatnonzero((requests.owner_row < 0) & (requests.store_row < 0))
        agree = np.mean(ours.guide_row[ours.start[plain]] == fused.guide[plain, 0])
        yield Figure("fused_first_choice_equal", float(agree), "share", params)
        # in turns, so that what disturbs the machine disturbs both
        ours_once = partial(rank, requests, roster, policy, NOW_MS)
        pairs = [(cpu_s(ours_once, 0.1), cpu_s(fused, 0.1)) for _ in range(5)]
        ours_s, fused_s = (statistics.median(column) for column in zip(*pairs, strict=True))
        yield Figure("peer_us_per_lead", ours_s / BATCH * 1e6, "us", params | {"peer": "lead-router"})
        yield Figure("peer_us_per_lead", fused_s / BATCH * 1e6, "us", params | {"peer": "numba, fused"})
        yield Figure("times_fused", statistics.median(a / b for a, b in pairs), "ratio", params)
        tree_s = cpu_s(peers.ball_tree(requests, roster, policy))
        yield Figure("peer_us_per_lead", tree_s / BATCH * 1e6, "us", params | {"peer": "BallTree + sort"})
        loop_s = cpu_s(peers.plain_python(requests, roster, policy, 20))
        yield Figure("peer_us_per_lead", loop_s / 20 * 1e6, "us", params | {"peer": "plain Python"})
        with peers.geosearch(requests, roster, policy) as (search, client):
            search()
            begin_s, client_begin_s = peers.server_cpu_s(client), time.process_time()
            search()
            took_s = peers.server_cpu_s(client) - begin_s + time.process_time() - client_begin_s
            yield Figure("peer_us_per_lead", took_s / BATCH * 1e6, "us", params | {"peer": "Redis GEOSEARCH"})


def roster(seed: int, sizes: tuple[int, ...]) -> Iterator[Figure]:
    """Building, memory and changes, and ranking in nations of several sizes with the default policy."""
    for stores in sizes:
        rng = np.random.default_rng(seed)
        place = nation.towns(stores, rng)
        tables = nation.tables(stores, place, rng)
        params = {"by": "roster", "stores": stores, "guides": stores * nation.GUIDES_PER_STORE, "seed": seed}
        before_kib = resident_kib()
        begin = time.process_time()
        made = assemble(*tables)
        yield Figure("build_s", time.process_time() - begin, "s", params)
        yield Figure("roster_bytes", made.nbytes / 1e6, "MB", params)
        yield Figure("roster_resident", (resident_kib() - before_kib) / 1e3, "MB", params)
        yield Figure("build_peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, "MB", params)
        near = place[:, rng.integers(0, stores, BATCH)] + rng.normal(0, 0.01, (2, BATCH))
        yield from speed(nation.leads(BATCH, near, made, rng), made, Policy(), params)
        yield Figure("changed_guide_ms", changes_ms(made, rng, move=False), "ms", params)
        yield Figure("moved_guide_ms", changes_ms(made, rng, move=True), "ms", params)


def changes_ms(made: Roster, rng: np.random.Generator, *, move: bool) -> float:
    """Median CPU time to write one changed guide, event to columns."""
    stores, times = made.square_store, []
    for row in rng.choice(made.guide_rows(), 500, replace=False).tolist():
        store = int(rng.choice(stores)) if move else int(made.guide_store[row])
        guide = Guide(
            guide_id=made.guide_ids[row],
            brand="b",
            version=2,
            store_id=made.store_ids[store],
            active=True,
            capacity=9,
        )
        begin = time.thread_time_ns()
        table: GuideTable = guide_table([guide], [False], made)
        put_guides(made, table)
        times.append((time.thread_time_ns() - begin) / 1e6)
    return statistics.median(times)


def resident_kib() -> int:
    """Resident memory of this process."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * resource.getpagesize() // 1024


def matches(seed: int, sizes: tuple[int, ...]) -> Iterator[Figure]:
    """Quality and time of the match beside the optimum, the greedy walk and the claim alone."""
    rounds = Policy().match_rounds_max
    for leads in sizes:
        for ratio in matching.RATIOS:
            table, room = matching.instance(leads, ratio, np.random.default_rng(seed))
            params = {"leads": leads, "slots_per_lead": ratio, "seed": seed}
            scores = matching.dense(table, room)
            best, best_s = matching.optimum(scores), cpu_s(lambda: matching.optimum(scores), 0.2)  # noqa: B023 - called here
            ours_s = cpu_s(lambda: auction(table, room, rounds), 0.2)  # noqa: B023 - called here
            ways = {
                "auction": auction(table, room, rounds),
                "greedy": in_turn(table, room, -table.score),
                "row by row": matching.row_by_row(table, room),
            }
            for way, column in ways.items():
                quality = matching.total(table, column) / best
                yield Figure("match_quality", quality, "share", params | {"way": way})
            yield Figure("match_ms", ours_s * 1e3, "ms", params | {"way": "auction"})
            yield Figure("match_ms", best_s * 1e3, "ms", params | {"way": "scipy"})
            yield Figure("match_times_scipy", ours_s / best_s, "ratio", params)
    for leads in (512, 2_048, 8_192):
        table, room = matching.instance(leads, 0.8, np.random.default_rng(seed))
        took_s = cpu_s(lambda: auction(table, room, rounds), 0.2)  # noqa: B023 - called here
        yield Figure(
            "match_us_per_lead",
            took_s / leads * 1e6,
            "us",
            {"leads": leads, "slots_per_lead": 0.8, "seed": seed},
        )


def main() -> None:
    """Measure, append, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing is kept")
    asked = parser.parse_args()
    figures: list[Figure] = []
    for part in (
        ranking(asked.seed),
        beside_peers(asked.seed),
        matches(asked.seed, (512,) if asked.quick else (512, 2_048)),
        regrets(asked.seed),
        roster(asked.seed, STORES[:2] if asked.quick else STORES),
    ):
        for figure in part:
            told = " ".join(f"{name}={value}" for name, value in figure.params.items() if name != "seed")
            print(f"{figure.metric:28} {figure.value:16,.3f} {figure.unit:6} {told}", flush=True)  # noqa: T201 - the table
            figures.append(figure)
    if not asked.quick:
        append(RESULTS / "scoring.jsonl", "scoring", figures)
        plot.save(figures, RESULTS / "scoring.png")


if __name__ == "__main__":
    main()

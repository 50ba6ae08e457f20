"""What others would do with the same queries: find who is near, sort by distance, not ask who suits."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import redis
from sklearn.neighbors import BallTree

from scoring import grid
from scoring.features import FEATURES
from scoring.policy import Policy
from scoring.requests import Requests
from scoring.retrieve import candidates
from scoring.roster import Roster
from scoring.score import weights


def ball_tree(requests: Requests, roster: Roster, policy: Policy) -> Callable[[], object]:
    """scikit-learn's BallTree over the stores, one entry a guide, nearest first."""
    store = roster.guide_store[roster.guide_rows()]
    places = np.radians(np.stack((roster.store_lat[store], roster.store_lon[store]), axis=1))
    tree = BallTree(places, metric="haversine")
    asked = np.radians(np.stack((requests.lat, requests.lon), axis=1))
    radius = policy.radius_km / grid.EARTH_KM
    return lambda: tree.query_radius(asked, radius, return_distance=True, sort_results=True)


@contextmanager
def geosearch(
    requests: Requests, roster: Roster, policy: Policy
) -> Iterator[tuple[Callable[[], object], redis.Redis]]:
    """Redis' GEOSEARCH over the guides, in one pipeline; the server's CPU is read from the server."""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "redis.sock"
        command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", folder]
        with _running(command, socket) as client:
            rows = roster.guide_rows()
            store = roster.guide_store[rows]
            names = roster.guide_ids.take(rows)
            lat, lon = roster.store_lat[store].tolist(), roster.store_lon[store].tolist()
            for begin in range(0, len(names), 10_000):
                part = zip(
                    lon[begin : begin + 10_000], lat[begin : begin + 10_000], names[begin:], strict=False
                )
                client.geoadd("guides", [word for entry in part for word in entry])
            asked = list(zip(requests.lon.tolist(), requests.lat.tolist(), strict=True))

            def search() -> object:
                pipeline = client.pipeline(transaction=False)
                for at in asked:
                    pipeline.geosearch(
                        "guides",
                        longitude=at[0],
                        latitude=at[1],
                        radius=policy.radius_km,
                        unit="km",
                        sort="ASC",
                        withdist=True,
                    )
                return pipeline.execute()

            yield search, client


@contextmanager
def _running(command: list[str], socket: Path) -> Iterator[redis.Redis]:
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - our own words
    client = redis.Redis(unix_socket_path=str(socket))
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        yield client
    finally:
        client.close()
        server.terminate()
        server.wait()


def server_cpu_s(client: redis.Redis) -> float:
    """User and system time of the server so far."""
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def plain_python(requests: Requests, roster: Roster, policy: Policy, leads: int) -> Callable[[], object]:
    """A loop over ``leads`` leads and their candidates: three filters and three features of them all."""
    found = candidates(requests, roster, policy)
    end = int(np.searchsorted(found.lead_row, leads))
    pairs = list(
        zip(
            found.lead_row[:end].tolist(),
            found.guide_row[:end].tolist(),
            found.km[:end].tolist(),
            strict=True,
        )
    )
    names = ("guide_active", "guide_present", "guide_capacity", "guide_load", "guide_level")
    active, present, capacity, load, level = (getattr(roster, name).tolist() for name in names)
    weight = dict(zip([each.name for each in FEATURES], weights(policy).tolist(), strict=True))
    half = policy.distance_half_km

    def loop() -> list[list[tuple[float, int]]]:
        out: list[list[tuple[float, int]]] = [[] for _ in range(leads)]
        for lead, guide, km in pairs:
            if active[guide] and present[guide] and load[guide] < capacity[guide]:
                free = (capacity[guide] - load[guide]) / capacity[guide]
                score = weight["distance"] * half / (half + km) + weight["free_capacity"] * free
                out[lead].append((score + weight["value_level"] * level[guide] / 10, guide))
        return [sorted(one, reverse=True)[: policy.shortlist_max] for one in out]

    return loop

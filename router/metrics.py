"""What the worker tells Prometheus; everything here watches from outside, a batch at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import wraps
from operator import itemgetter
from typing import Any, ParamSpec, TypeVar

import numpy as np
from faust.types import TP
from numpy.typing import ArrayLike
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Info,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from router.positions import Seen

P = ParamSpec("P")
R = TypeVar("R")

#: Bounds in seconds: the budget of 50 ms from event to assignment lies in the middle.
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Durations(Collector):
    """A histogram in seconds that takes a whole batch in one numpy step; one optional label."""

    def __init__(self, name: str, text: str, label: str | None = None) -> None:
        self._name, self._text, self._label = name, text, label
        self._counts: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, values_s: ArrayLike, label: str = "") -> None:
        """Count durations in seconds."""
        values = np.atleast_1d(np.asarray(values_s, np.float64))
        slots = np.searchsorted(BOUNDS_S, values)
        counts = np.bincount(slots, minlength=len(BOUNDS_S) + 1)
        # the sum first: the listener's thread may read between the two and goes by the counts
        self._sums[label] = self._sums.get(label, 0.0) + float(values.sum())
        self._counts[label] = self._counts.get(label, 0) + counts

    def collect(self) -> Iterable[Metric]:
        """Render what was counted so far."""
        labels = [self._label] if self._label else []
        family = HistogramMetricFamily(self._name, self._text, labels=labels)
        bounds = [*map(str, BOUNDS_S), "+Inf"]
        for label, counts in list(self._counts.items()):
            buckets = list(zip(bounds, np.cumsum(counts).tolist(), strict=True))
            family.add_metric([label] if self._label else [], buckets, self._sums[label])
        yield family


class Partitions(Collector):
    """What a worker sees of the partitions it holds, read when somebody asks: see ``router.positions``."""

    def __init__(self, seen: Callable[[], Mapping[TP, Seen]]) -> None:
        self._seen = seen

    def collect(self) -> Iterable[Metric]:
        """Render lag, head of the line and truncation of each partition."""
        labels = ["topic", "partition"]
        lag = GaugeMetricFamily(
            "leadrouter_consumer_lag_records",
            "Records on the broker that are not committed yet.",
            labels=labels,
        )
        head = GaugeMetricFamily(
            "leadrouter_head_of_line_seconds",
            "Age of the oldest record that was delivered and is not acknowledged.",
            labels=labels,
        )
        truncated = CounterMetricFamily(
            "leadrouter_truncated_records",
            "Records that the broker removed before they were read.",
            labels=labels,
        )
        for (topic, partition), seen in self._seen().items():
            place = [topic, str(partition)]
            lag.add_metric(place, seen.lag_records)
            head.add_metric(place, seen.head_of_line_s)
            truncated.add_metric(place, seen.truncated_records)
        yield from (lag, head, truncated)


#: How many queues are shown one by one, those that wait longest.
QUEUES_MAX = 50


class Metrics:
    """All metrics of one worker, on a registry of its own."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.events = self._counter("events", "Events by what became of them.", "topic", "outcome")
        self.dead_letters = self._counter("dlq", "Dead letters by reason.", "reason")
        self.claims = self._counter("claim", "Claims by their result.", "result")
        self.refused = self._counter("reference_refused", "Reference records refused.", "topic", "reason")
        self.regressions = self._counter("redis_regressions", "Times that Redis had lost what it was told.")
        self.decision = Durations("leadrouter_decision_seconds", "From the event to its published result.")
        self.stage = Durations("leadrouter_stage_seconds", "Wall time of one batch in a stage.", "stage")
        self.registry.register(self.decision)
        self.registry.register(self.stage)
        self.ready = self._gauge("ready", "1 once the roster is read and partitions are assigned.")
        self.alive = self._gauge("alive", "0 once a batch is worked on for longer than any outage explains.")
        self.oldest_waiting = Gauge(
            "leadrouter_oldest_waiting_seconds",
            "Age of who waits longest in a named queue; of the queues that wait longest, and of all others.",
            ("brand", "queue"),
            registry=self.registry,
        )
        self.guides = self._gauge("guides", "Guides in the roster.")
        self.stores = self._gauge("stores", "Stores in the roster.")
        self.over_capacity = self._gauge("over_capacity_leads", "Open leads beyond their guides' capacity.")
        self.columns = self._gauge("columns_checksum", "The same on all workers that know the same.")
        self.imbalance = self._gauge("ledger_imbalance_fen", "What the accounts come to; must be 0.")
        self.chain_ok = self._gauge("ledger_chain_ok", "1 while no numbered posting is missing.")
        self.chain_ok.set(1)
        build = Info("leadrouter_build", "What is running.", registry=self.registry)
        build.info({"version": version})

    def tell_waiting(self, oldest_ms: Mapping[tuple[str, str], int], now_ms: int) -> None:
        """Show how long leads wait, by brand and queue: so many at most, whatever queues there are."""
        self.oldest_waiting.clear()
        for number, (place, at_ms) in enumerate(sorted(oldest_ms.items(), key=itemgetter(1))):
            if number <= QUEUES_MAX:  # the last one is the oldest of all others
                shown = place if number < QUEUES_MAX else ("other", "other")
                self.oldest_waiting.labels(*shown).set(max(now_ms - at_ms, 0) / 1000)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"leadrouter_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"leadrouter_{name}", text, registry=self.registry)

    def serve(self, port: int) -> int:
        """Answer ``GET /metrics`` on the loopback address only; the port that was taken."""
        server, _ = start_http_server(port, addr="127.0.0.1", registry=self.registry)
        return int(server.server_port)

    def count_claims(self, results: Sequence[str]) -> None:
        """Count the results of a batch of claims."""
        for result in set(results):
            self.claims.labels(result).inc(results.count(result))

    def timed(
        self, stage: str, step: Callable[P, Coroutine[Any, Any, R]]
    ) -> Callable[P, Coroutine[Any, Any, R]]:
        """Wrap an asynchronous step so that its wall time is counted under ``stage``."""

        @wraps(step)
        async def watched(*args: P.args, **kwargs: P.kwargs) -> R:
            began = time.perf_counter()
            try:
                return await step(*args, **kwargs)
            finally:
                self.stage.observe(time.perf_counter() - began, stage)

        return watched
